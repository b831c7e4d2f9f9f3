"""Parameters of models that this service does not know, which the operator may allow: they are sent as they are.

Only what this service itself needs is checked: the texts that it keeps, and the size. Inline media are stored apart.
"""

import hashlib
import json
import re

from service.domain.blob import Blob
from service.domain.errors import Fault
from service.domain.media.limits import MB, decode, parse_data_uri
from service.domain.models.media_descriptors import describe, is_descriptor
from service.domain.models.value_checks import JsonValue, address_faults, printable_name, shorten, text_faults

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_REQUEST_BYTES = 20 * MB
MAX_TEXT_BYTES = 256 * 1024
"""Bytes of the parameters as JSON without their inline media: they are read with the task."""

MAX_PAYLOAD = 1_048_576
OWN_PARAMETERS = ("payload", "meta_data", "callback_url")


class UncheckedParams:
    """The parameters of one request: `values` with descriptors in place of inline media, `blobs`, and `faults`."""

    def __init__(self, params: dict[str, JsonValue], *, allow_off_peak: bool) -> None:
        self.faults: list[Fault] = []
        self.blobs: list[Blob] = []
        self._used: set[str] = set()
        self._check_own(params, allow_off_peak=allow_off_peak)
        self.size = 0
        self.values = {name: self._stored(value, name) for name, value in params.items()}
        kept = {name: value for name, value in self.values.items() if name not in OWN_PARAMETERS}
        text = len(json.dumps(kept, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if text > MAX_TEXT_BYTES:
            self._add("params", f"must be at most {MAX_TEXT_BYTES:,} bytes without inline media, is {text:,}")
        if text + self.size > MAX_REQUEST_BYTES:
            self._add("params", f"the whole request must be at most {MAX_REQUEST_BYTES // MB} MB: send addresses")

    def _check_own(self, params: dict[str, JsonValue], *, allow_off_peak: bool) -> None:
        """Check the parameters that this service keeps, and the one that it knows to be unavailable."""
        for name in ("payload", "meta_data"):
            for message in text_faults(params.get(name, ""), max_chars=MAX_PAYLOAD, blank=True):
                self._add(name, message)
        for message in address_faults(params["callback_url"]) if "callback_url" in params else ():
            self._add("callback_url", message)
        if params.get("off_peak") is True and not allow_off_peak:
            self._add("off_peak", "is temporarily unavailable upstream: leave it out or set it to false")

    def _stored(self, value: JsonValue, place: str) -> JsonValue:
        """Return `value` with descriptors in place of data URIs, at any depth."""
        if isinstance(value, dict):
            if is_descriptor(value):
                self._add(place, "looks like a stored file: send the file or its address")
            return {name: self._stored(each, f"{place}.{name}") for name, each in value.items()}
        if isinstance(value, list):
            return [self._stored(each, f"{place}.{index}") for index, each in enumerate(value)]
        if isinstance(value, str) and value[:5].lower() == "data:":
            return self._blob(value, place)
        if isinstance(value, str) and place not in OWN_PARAMETERS:
            for message in text_faults(value, max_chars=None, blank=True):
                self._add(place, message)
        return value

    def _blob(self, text: str, place: str) -> JsonValue:
        uri = parse_data_uri(text)
        if uri is None:
            return text
        try:
            data = decode(text, uri)
        except ValueError:
            self._add(place, "is not strict base64: use the standard alphabet with = padding")
            return None
        if place in self._used:
            self._add(place, "has the same name as another inline file: use names without dots")
            return None
        self._used.add(place)
        self.size += len(text)
        blob = Blob(place=place, media_type=uri.media_type, sha256=hashlib.sha256(data).hexdigest(), data=data)
        self.blobs.append(blob)
        return describe(blob)

    def _add(self, name: str, message: str) -> None:
        loc = ("params",) if name == "params" else ("params", printable_name(name))
        self.faults.append(Fault(loc=loc, msg=message))


def may_be_model(name: object) -> bool:
    """Return whether `name` can be the name of a model."""
    return isinstance(name, str) and MODEL_NAME.fullmatch(name) is not None


def unchecked_warning(model: str) -> str:
    """Return the warning of a task whose parameters were not checked."""
    return f"the parameters of {shorten(model)} were not checked: this service does not know the model"
