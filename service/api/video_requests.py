"""Translates the request of an OpenAI-shaped video API into one of `POST /v1/tasks`. Only computes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.domain.errors import Fault, InvalidParams
from service.domain.models.catalog import MODELS
from service.domain.task import Json
from service.domain.video_shape import DURATION, NEAREST_SIZES, RATIO, RESOLUTION, sizes_of

FROM_TEXT, FROM_MEDIA = "viduq2_pro_fast_text2video", "viduq2_pro_reference"
"""The models of requests that name none: for a prompt alone, and for references."""

OWN_KEYS = frozenset({"model", "seconds", "size", "input_reference", "metadata"})
MEDIA = ("images", "videos", "subjects")
VIDEO_URI = "data:video/"
MAX_SECONDS_CHARS = 9
NO_FILE_IDS = "file ids are of another service: upload the file here, or give image_url"
REFERENCE_FORM = 'must be an uploaded file, an address, a data URI or {"image_url": "https://..."}'


@dataclass(kw_only=True)
class Translation:
    """The body of `POST /v1/tasks` and the faults that were found on the way, at the keys of the request.

    `sources` are the keys of the request that parameters come from.
    """

    body: Json
    faults: list[Fault] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def params(self) -> Json:
        """Return the parameters of the model."""
        found: Json = self.body["params"]
        return found

    def set_param(self, name: str, value: object, source: str) -> None:
        """Set a parameter that comes from the key `source` of the request."""
        self.params[name], self.sources[name] = value, source

    def request_faults(self, faults: Sequence[Fault]) -> list[Fault]:
        """Return faults of the task at the keys of the request that they come from.

        That of the model is first, since others may follow from it: most clients show the key of the first one.
        """
        located = [Fault(loc=self._location(each.loc), msg=each.msg) for each in faults]
        return sorted(located, key=lambda fault: fault.loc != ("model",))

    def _location(self, loc: tuple[str | int, ...]) -> tuple[str | int, ...]:
        if loc[:1] != ("params",) or len(loc) == 1:
            return loc
        source = self.sources.get(str(loc[1]))
        return (source,) if source else loc[1:]


def task_request(data: object) -> Translation:
    """Return the translation of a request; raises InvalidParams unless it is an object.

    `seconds`, `size` and `input_reference` become the model's own parameters. Any other key is one of those itself.
    """
    if not isinstance(data, dict):
        raise InvalidParams([Fault(loc=(), msg="the body must be an object with a prompt")])
    params = {name: value for name, value in data.items() if name not in OWN_KEYS}
    body: Json = {"model": data.get("model"), "params": params}
    if "metadata" in data:
        body["metadata"] = data["metadata"]
    found = Translation(body=body)
    references = _references(data.get("input_reference"), found)
    if body["model"] is None:
        body["model"] = _default_model(params, references)
    _add_references(references, found)
    _add_seconds(data.get("seconds"), found)
    _add_size(data.get("size"), found)
    return found


def _default_model(params: Mapping[str, Any], references: Sequence[str]) -> str:
    with_media = bool(references) or any(params.get(name) for name in MEDIA)
    return FROM_MEDIA if with_media or FROM_TEXT not in MODELS else FROM_TEXT


def _references(value: object, found: Translation) -> list[str]:
    """Return the addresses and data URIs in `input_reference`."""
    references: list[str] = []
    values = value if isinstance(value, list) else [] if value is None else [value]
    for each in values:
        if isinstance(each, dict) and "file_id" in each:
            found.faults.append(Fault(loc=("input_reference",), msg=NO_FILE_IDS))
            continue
        url = each.get("image_url") if isinstance(each, dict) else each
        if isinstance(url, str) and (not isinstance(each, dict) or len(each) == 1):
            references.append(url)
        else:
            found.faults.append(Fault(loc=("input_reference",), msg=REFERENCE_FORM))
    return references


def _add_references(references: Sequence[str], found: Translation) -> None:
    """Add the references to the model's images and videos."""
    for reference in references:
        name = "videos" if reference[: len(VIDEO_URI)].lower() == VIDEO_URI else "images"
        if not _takes(found, name):
            msg = f"the model {found.body['model']} takes no {name}: leave it out, or choose another model"
            found.faults.append(Fault(loc=("input_reference",), msg=msg))
            return
        given = found.params.get(name)
        found.set_param(name, [*(given if isinstance(given, list) else []), reference], "input_reference")


def _add_seconds(value: object, found: Translation) -> None:
    if value is None:
        return
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_SECONDS_CHARS):
        found.faults.append(Fault(loc=("seconds",), msg='must be a whole number of seconds, like "5"'))
    elif not _takes(found, DURATION):
        found.faults.append(Fault(loc=("seconds",), msg=f"the model {found.body['model']} has no duration"))
    elif DURATION in found.params:
        found.faults.append(Fault(loc=("seconds",), msg="is given as duration too: give one of them"))
    else:
        found.set_param(DURATION, int(text), "seconds")


def _add_size(value: object, found: Translation) -> None:
    if value is None:
        return
    sizes = sizes_of(str(found.body["model"]))
    text = NEAREST_SIZES.get(value, value) if isinstance(value, str) else ""
    if RATIO in found.params or RESOLUTION in found.params:
        found.faults.append(Fault(loc=("size",), msg="is given as aspect_ratio or resolution too: give one of them"))
    elif text in sizes:
        for name, part in zip((RATIO, RESOLUTION), sizes[text], strict=True):
            found.set_param(name, part, "size")
    else:
        known = f"must be one of {', '.join(sizes)}" if sizes else "give aspect_ratio and resolution instead"
        found.faults.append(Fault(loc=("size",), msg=known))


def _takes(found: Translation, name: str) -> bool:
    """Return whether the model has the parameter; an unknown model is reported elsewhere."""
    model = found.body["model"]
    return not isinstance(model, str) or model not in MODELS or name in MODELS[model].model_fields
