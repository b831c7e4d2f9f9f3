"""Lenient JSON: what is needed of a provider's answer is read, the rest is tolerated."""

import json

import pytest

from service.domain.errors import UnreadableBody
from service.domain.lenient_json import IncompleteJson, parse_lenient
from service.domain.strict_json import MAX_VALUES, parse_json

ODD: list[tuple[bytes, object]] = [
    (b'\xef\xbb\xbf{"id": "a"}', {"id": "a"}),
    ('\ufeff{"id": "ä"}'.encode("utf-16-le"), {"id": "ä"}),
    (b'\0 {"id": "a"}\n', {"id": "a"}),
    (b'{"id": "a", "n": NaN, "i": -Infinity, "f": 1e999}', {"id": "a", "n": None, "i": None, "f": None}),
    (b'{"id": "a", "id": null}', {"id": "a"}),
    (b'{"id": null, "id": "a"}', {"id": "a"}),
    (b'{"id": "a", "id": "b"}', {"id": "b"}),
    (b'{"id": "a", "path": "C:\\video"}', {"id": "a", "path": "C:\\video"}),
    (b'{"id": "a", "text": "two\nlines"}', {"id": "a", "text": "two\nlines"}),
    (b'{"id": "a", "text": "\xff"}', {"id": "a", "text": "\ufffd"}),
    (b'{"id": "a", "text": "\\ud83c"}', {"id": "a", "text": "\ud83c"}),
    (b'{"id": "a"}<!-- 12 ms -->', {"id": "a"}),
    (b'{"id": "a", "list": [1, 2,], }', {"id": "a", "list": [1, 2]}),
    (b'{"id": "a", "none": None, "odd": undefined}', {"id": "a", "none": None, "odd": None}),
    (b'{"n": ' + b"9" * 5000 + b"}", {"n": "9" * 5000}),
    (b'{"n": 12345678901234567890}', {"n": 12345678901234567890}),
    (b')]}\',\n{"id": "a"}', {"id": "a"}),
    (b'for(;;);{"id": "a"}', {"id": "a"}),
    (b'callback({"id": "a"});', {"id": "a"}),
    (b'event: created\nid: 1\ndata: {"id": "a"}\n\n', {"id": "a"}),
]


@pytest.mark.parametrize(("raw", "value"), ODD, ids=lambda part: repr(part)[:40])
def test_odd_json_is_read(raw: bytes, value: object) -> None:
    """Each oddity leaves the other fields readable."""
    assert parse_lenient(raw) == value


CUT: list[tuple[bytes, object]] = [
    (b'{"id": "a", "sta', {"id": "a"}),
    (b'{"id": "a"', {"id": "a"}),
    (b'{"id": 88, "x": 7', {"id": 88}),
    (b'{"data": {"id": "a", "x": [1, {"y": 2', {"data": {"id": "a", "x": [1, {}]}}),
    (b'{"prompt": "a {b}, \\"c\\"", "id": "a", "t": "it goes on, {', {"prompt": 'a {b}, "c"', "id": "a"}),
]


@pytest.mark.parametrize(("raw", "value"), CUT, ids=lambda part: repr(part)[:40])
def test_text_that_is_cut_off_keeps_its_complete_values(raw: bytes, value: object) -> None:
    """Values before the cut are returned; a text or a number at the cut is not."""
    with pytest.raises(IncompleteJson) as cut:
        parse_lenient(raw)
    assert cut.value.value == value


@pytest.mark.parametrize("raw", [b"", b"<html></html>", b'{"id": "a', b'{"id": 88', b"[1, 2", b"nonsense", b"\xff\xfe"])
def test_text_without_a_complete_value_is_unreadable(raw: bytes) -> None:
    """Half an id is another id: nothing is returned."""
    with pytest.raises(UnreadableBody) as unreadable:
        parse_lenient(raw)
    assert not isinstance(unreadable.value, IncompleteJson)


def test_too_many_values_and_too_deep_nesting_keep_the_fields_before() -> None:
    """A flood of values is not built in memory, and deep nesting is cut; the fields before it are returned."""
    for flood in (b"[" + b"1," * (MAX_VALUES + 10) + b"1]", b'{"a":' * 5000 + b"1" + b"}" * 5000):
        raw = b'{"id": "a", "flood": ' + flood
        try:
            value = parse_lenient(raw + b"}")
        except IncompleteJson as cut:
            value = cut.value
        assert isinstance(value, dict)
        assert value["id"] == "a"


def test_megabytes_of_echoed_inputs_are_read() -> None:
    """A long text does not hide the fields beside it."""
    raw = json.dumps({"images": ["A" * 8_000_000], "id": "a"}).encode()
    assert parse_lenient(raw)["id"] == "a"  # type: ignore[index]


def test_strict_reader_stays_strict() -> None:
    """Requests to this service's own API are not read leniently."""
    for raw in (b'\xef\xbb\xbf{"a": 1}', b'{"a": NaN}', b'{"a": 1, "a": 2}', b'{"a": 1} x', b'{"a": "\\ud83c"}'):
        with pytest.raises(UnreadableBody):
            parse_json(raw)
