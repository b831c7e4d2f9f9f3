"""Targets: bodies, media, parameters, settings, queries and switches. Each input is read or refused as documented."""

import inspect
import ipaddress
import json
import re
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

from starlette.requests import Request

from service.api.problems import Problem
from service.api.query_params import QueryParams
from service.deliveries import egress_allow_syntax
from service.deliveries.egress_policy import Egress, EgressRefused
from service.domain import durations
from service.domain.errors import BadSetting, InvalidParams, ProviderUnavailable, UnreadableBody
from service.domain.lenient_json import IncompleteJson, parse_lenient
from service.domain.media.file_headers import claimed_samples, has_too_many_parts, image_size, is_truncated, sniff
from service.domain.media.limits import InlineMedia, decode, decoded_size, parse_data_uri
from service.domain.models.catalog import known_models
from service.domain.models.media_descriptors import restore
from service.domain.models.validation import validate_params
from service.domain.notify import validate_notify
from service.domain.strict_json import MAX_DEPTH, parse_json
from service.providers.vidu.bodies import read_vidu, vidu_error
from service.providers.vtrix.bodies import read_vtrix, vtrix_error
from service.runtime.config import setting_parsers as values
from service.sandbox import SwitchError, Switches
from tests.fuzz.input_reader import InputReader, as_text, result_or_error
from tests.fuzz.signed_inputs import COMMON_CHARACTERS, MAX_TEXT, check_fact
from tests.support.no_egress_guard import any_address
from tests.support.sample_media import with_data_uris

PARSERS: dict[str, values.Parse[Any]] = {
    "duration": durations.duration,
    "positive_duration": values.positive_duration,
    "lease": values.lease,
    "durations": values.durations,
    "rate": values.rate,
    "whole": values.whole_number(0, 1000),
    "dollars": values.dollars,
    "yes_or_no": values.boolean,
    "names": values.comma_separated,
    "address": values.address,
    "target": values.target,
    "database": values.database,
    "archive": values.archive,
    "egress": values.egress,
    "secret_keys": values.secret_keys,
    "webhook_secrets": values.webhook_secrets,
    "api_keys": values.api_keys,
}
PARSER_SOURCE = "".join(map(inspect.getsource, (values, egress_allow_syntax)))
"""Text that an error message may contain independently of the setting."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def body(data: bytes) -> None:
    """Parse JSON like the standard library, without its traps; the result survives a round trip."""
    result = result_or_error(lambda: parse_json(data), UnreadableBody)
    if isinstance(result, UnreadableBody):
        assert len(str(result)) < MAX_TEXT
        return
    assert result == json.loads(data)
    assert _depth(result) <= MAX_DEPTH
    assert parse_json(json.dumps(result, ensure_ascii=False, allow_nan=False).encode()) == result


def _depth(value: object) -> int:
    depth, layer = 0, [value]
    while layer := [one for one in layer if isinstance(one, dict | list)]:
        depth += 1
        layer = [inner for one in layer for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def upstream_body(data: bytes) -> None:
    """Read a provider's body: a bounded fact or ProviderUnavailable; its errors are short lines."""
    for explain in (vtrix_error, vidu_error):
        assert all(len(text) <= MAX_TEXT and not CONTROL.search(text) for text in explain(data)), explain
    try:
        result = parse_lenient(data)
    except IncompleteJson as cut:
        result = cut.value
    except UnreadableBody:
        return
    for read in (read_vtrix, read_vidu):
        with suppress(ProviderUnavailable):
            check_fact(read(result))


def media(data: bytes) -> None:
    """Inspect any file: a format or none, and sizes above 0 or none, in a short time."""
    form, size = sniff(data), image_size(data)
    assert form is None or form.isalnum()
    assert size is None or min(size) > 0
    assert claimed_samples(data) >= 0
    assert is_truncated(data) in {True, False}
    assert has_too_many_parts(data) in {True, False}


def data_uri(data: bytes) -> None:
    """Decode a data URI: the declared number of bytes, which survive a round trip."""
    text = as_text(data)
    uri = parse_data_uri(text)
    if uri is None:
        return
    try:
        decoded = decode(text, uri)
    except ValueError:
        return
    assert len(decoded) == decoded_size(text, uri)
    again = InlineMedia(media_type=uri.media_type, data=decoded).data_uri()
    result = parse_data_uri(again)
    assert result is not None
    assert decode(again, result) == decoded


def parameters(data: bytes) -> None:
    """Validate a request: refused with short faults, or accepted and sent unchanged."""
    with suppress(UnreadableBody):
        value = parse_json(data)
        with suppress(InvalidParams):
            validate_notify(value, ["log", "webhook"], any_address)
        try:
            validated = validate_params(known_models()[0], value)
        except InvalidParams as invalid:
            _check_faults(invalid)
        else:
            blobs = {one.place: one for one in validated.blobs}
            sent = with_data_uris(restore(validated.params, blobs))
            assert isinstance(value, dict)
            assert all(value[name] == sent_value for name, sent_value in sent.items() if name in value)


def _check_faults(invalid: InvalidParams) -> None:
    assert invalid.faults
    assert all(fault.msg and len(fault.msg) < MAX_TEXT for fault in invalid.faults)
    Problem(status=422, faults=invalid.faults).response()


def setting(data: bytes) -> None:
    """Parse a setting: a value of its type, or a message that does not repeat it."""
    reader = InputReader(data)
    name = reader.choose(list(PARSERS))
    text = reader.text()
    result = result_or_error(lambda: PARSERS[name](text), ValueError)
    if isinstance(result, ValueError):
        assert len(text) < COMMON_CHARACTERS or text not in str(result) or text in PARSER_SOURCE, name
        assert str(result).startswith("must "), name
        return
    _check_value(name, text, result)


def _check_value(name: str, text: str, result: object) -> None:
    if isinstance(result, timedelta):
        assert timedelta(0) <= result <= durations.MAX_DURATION
    if name == "rate":
        assert isinstance(result, float)
        assert 0 < result < 1e9 + 1
    if isinstance(result, Decimal):
        assert result >= 0
        assert float(result) < float("inf")
    if name in {"address", "target", "database"}:
        assert PARSERS[name](str(result)) == result
    if name == "archive":
        assert text == result


def query(data: bytes) -> None:
    """Read a query: values within their limits, or faults as a valid problem response."""
    request = Request({"type": "http", "method": "GET", "path": "/", "query_string": data, "headers": []})
    params = QueryParams(request, "limit", "status", "model", "cursor")
    limit = params.integer("limit", 50, minimum=1, maximum=200)
    status, model = params.choice("status", ("queued", "dead")), params.text("model")
    cursor = params.cursor("task")
    try:
        params.reject_errors()
    except InvalidParams as invalid:
        _check_faults(invalid)
        return
    assert 1 <= limit <= 200
    assert status in {None, "queued", "dead"}
    assert model is None or (model.isprintable() and 0 < len(model) <= 200)
    assert cursor is None or len(cursor) <= 64


def switches(data: bytes) -> None:
    """Change the sandbox's switches: they accept their own JSON form, or raise SwitchError."""
    with suppress(UnreadableBody):
        value = parse_json(data)
        if not isinstance(value, dict):
            return
        try:
            changed = Switches().with_changes(value)
        except SwitchError:
            return
        written = json.loads(json.dumps(changed.to_json(), allow_nan=False))
        assert Switches().with_changes(written) == changed


def egress(data: bytes) -> None:
    """Configure egress: named targets are allowed and no others; loopback and metadata addresses stay blocked."""
    text = as_text(data)
    try:
        guard = Egress(values.egress(text))
    except (ValueError, BadSetting):
        return
    for address in ("127.0.0.1", "169.254.169.254", "::1", "10.0.0.1"):
        named = any(_names(part.strip(), address) for part in text.split(","))
        try:
            guard.check("other.example", 80, address)
        except EgressRefused:
            continue
        assert named, address


def _names(part: str, address: str) -> bool:
    """Return whether an entry names the host, or a network with that address, at any port."""
    host = part.rpartition(":")[0].strip("[]") if part.count(":") == 1 or "]:" in part else part.strip("[]")
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(host)
    except ValueError:
        return host.lower().rstrip(".") == "other.example"
