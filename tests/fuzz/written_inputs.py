"""Targets: bodies, media, parameters, settings, queries and switches. Read as documented, or refused as documented."""

import ipaddress
import json
import re
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from starlette.requests import Request

from service.api.problems import Problem
from service.api.query_params import QueryParams
from service.deliveries.egress import Egress, EgressRefused
from service.domain.errors import BadSetting, InvalidParams, ProviderUnavailable, UnreadableBody
from service.domain.media.file_headers import claimed_samples, image_size, is_cut_short, is_shredded, sniff
from service.domain.media.limits import decode, decoded_size, encode, parse_data_uri
from service.domain.models.catalog import known_models
from service.domain.models.media_descriptors import restore
from service.domain.models.validation import validate_params
from service.domain.notify import validate_notify
from service.domain.strict_json import MAX_DEPTH, parse_json
from service.providers.vidu.bodies import read_vidu, vidu_error
from service.providers.vtrix.bodies import read_vtrix, vtrix_error
from service.runtime.config import setting_types as values
from service.sandbox import SwitchError, Switches
from tests.fuzz.feed import Feed, as_text, tried
from tests.fuzz.signed_inputs import MOST_TEXT, SHORT, sound_fact
from tests.support.no_egress_guard import any_address

PARSERS: dict[str, values.Parse[Any]] = {
    "duration": values.duration,
    "positive_duration": values.positive_duration,
    "lease": values.lease,
    "durations": values.durations,
    "rate": values.rate,
    "whole": values.whole(0, 1000),
    "dollars": values.dollars,
    "yes_or_no": values.yes_or_no,
    "names": values.names,
    "address": values.address,
    "target": values.target,
    "database": values.database,
    "archive": values.archive,
    "egress": values.egress,
    "secret_keys": values.secret_keys,
    "webhook_secrets": values.webhook_secrets,
    "api_keys": values.api_keys,
}
EXAMPLES = Path(values.__file__).read_text("utf-8")
"""What a refusal says without having heard it from the setting."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def body(data: bytes) -> None:
    """Read JSON as the standard library does, without its traps; it comes back when written out."""
    found = tried(lambda: parse_json(data), UnreadableBody)
    if isinstance(found, UnreadableBody):
        assert len(str(found)) < MOST_TEXT
        return
    assert found == json.loads(data)
    assert _depth(found) <= MAX_DEPTH
    assert parse_json(json.dumps(found, ensure_ascii=False, allow_nan=False).encode()) == found


def _depth(value: object) -> int:
    depth, layer = 0, [value]
    while layer := [one for one in layer if isinstance(one, dict | list)]:
        depth += 1
        layer = [inner for one in layer for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def upstream_body(data: bytes) -> None:
    """Read what an upstream says: a bounded fact, or its health; its errors are short lines."""
    for explain in (vtrix_error, vidu_error):
        assert all(len(text) <= MOST_TEXT and not CONTROL.search(text) for text in explain(data)), explain
    with suppress(UnreadableBody):
        found = parse_json(data)
        for read in (read_vtrix, read_vidu):
            with suppress(ProviderUnavailable):
                sound_fact(read(found))


def media(data: bytes) -> None:
    """Look at any file: it has a format or none, and sizes above 0 or none; nothing takes long."""
    form, size = sniff(data), image_size(data)
    assert form is None or form.isalnum()
    assert size is None or min(size) > 0
    assert claimed_samples(data) >= 0
    assert is_cut_short(data) in {True, False}
    assert is_shredded(data) in {True, False}


def data_uri(data: bytes) -> None:
    """Decode a data URI: as many bytes as was said before, and written back the same."""
    text = as_text(data)
    uri = parse_data_uri(text)
    if uri is None:
        return
    try:
        decoded = decode(text, uri)
    except ValueError:
        return
    assert len(decoded) == decoded_size(text, uri)
    again = encode(uri.media_type, decoded)
    found = parse_data_uri(again)
    assert found is not None
    assert decode(again, found) == decoded


def parameters(data: bytes) -> None:
    """Check a request: refused with its faults, each short, or taken to go up as it came."""
    with suppress(UnreadableBody):
        wish = parse_json(data)
        with suppress(InvalidParams):
            validate_notify(wish, ["log", "webhook"], any_address)
        try:
            validated = validate_params(known_models()[0], wish)
        except InvalidParams as invalid:
            _sound_faults(invalid)
        else:
            blobs = {one.place: one for one in validated.blobs}
            sent = restore(validated.params, blobs)
            assert isinstance(wish, dict)
            assert all(wish[name] == value for name, value in sent.items() if name in wish)


def _sound_faults(invalid: InvalidParams) -> None:
    assert invalid.faults
    assert all(fault.msg and len(fault.msg) < MOST_TEXT for fault in invalid.faults)
    Problem(status=422, faults=invalid.faults).answer()


def setting(data: bytes) -> None:
    """Read a setting: a value of its kind, or a sentence that does not repeat it."""
    feed = Feed(data)
    name = feed.one_of(list(PARSERS))
    text = feed.text()
    found = tried(lambda: PARSERS[name](text), ValueError)
    if isinstance(found, ValueError):
        assert len(text) < SHORT or text not in str(found) or text in EXAMPLES, name
        assert str(found).startswith("must "), name
        return
    _sound_value(name, text, found)


def _sound_value(name: str, text: str, found: object) -> None:
    if isinstance(found, timedelta):
        assert timedelta(0) <= found <= values.LONGEST
    if name == "rate":
        assert isinstance(found, float)
        assert 0 < found < 1e9 + 1
    if isinstance(found, Decimal):
        assert found >= 0
        assert float(found) < float("inf")
    if name in {"address", "target", "database"}:
        assert PARSERS[name](str(found)) == found
    if name == "archive":
        assert text == found


def query(data: bytes) -> None:
    """Read a query: what was asked for within its bounds, or its faults as a problem that can be sent."""
    request = Request({"type": "http", "method": "GET", "path": "/", "query_string": data, "headers": []})
    asked = QueryParams(request, "limit", "status", "model", "cursor")
    limit = asked.whole("limit", 50, minimum=1, maximum=200)
    status, model = asked.choice("status", ("queued", "dead")), asked.text("model")
    cursor = asked.cursor("task")
    try:
        asked.done()
    except InvalidParams as invalid:
        _sound_faults(invalid)
        return
    assert 1 <= limit <= 200
    assert status in {None, "queued", "dead"}
    assert model is None or (model.isprintable() and 0 < len(model) <= 200)
    assert cursor is None or len(cursor) <= 64


def switches(data: bytes) -> None:
    """Turn the sandbox's switches: they take what they are written as, or say what does not fit."""
    with suppress(UnreadableBody):
        wish = parse_json(data)
        if not isinstance(wish, dict):
            return
        try:
            turned = Switches().with_changes(wish)
        except SwitchError:
            return
        written = json.loads(json.dumps(turned.to_json(), allow_nan=False))
        assert Switches().with_changes(written) == turned


def egress(data: bytes) -> None:
    """Allow dialling: what is named is opened and nothing else; loopback and metadata stay shut."""
    text = as_text(data)
    try:
        guard = Egress(values.egress(text))
    except (ValueError, BadSetting):
        return
    for address in ("127.0.0.1", "169.254.169.254", "::1", "10.0.0.1"):
        named = any(_names(part.strip(), address) for part in text.split(","))
        try:
            guard.check("stranger.example", 80, address)
        except EgressRefused:
            continue
        assert named, address


def _names(part: str, address: str) -> bool:
    """Return whether an entry names the stranger, or a network with that address, at any port."""
    host = part.rpartition(":")[0].strip("[]") if part.count(":") == 1 or "]:" in part else part.strip("[]")
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(host)
    except ValueError:
        return host.lower().rstrip(".") == "stranger.example"
