"""Refused JSON: the reason is reported, without any of the text."""

import json
from typing import Any

import pytest

from service.domain import strict_json
from service.domain.errors import UnreadableBody
from service.domain.strict_json import LONG_BODY, LONG_STRING, parse_json

LONG = "data:image/png;base64," + "iVBORw0KGgo" * (LONG_STRING // 10)
OTHER = "é€" * LONG_STRING


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"secret": ', "Expecting value (line 1, column 11)"),
        (b'{"secret": 1} 2', "something follows the value"),
        (b'{"secret": 1, "secret": 2}', "a key is written twice"),
        (b'{"secret": NaN}', "NaN is not a JSON number"),
        (b'{"secret": 1e999}', "a number is out of range"),
        (b'{"secret": ' + b"9" * 5000 + b"}", "a number is out of range"),
        (b'{"secret": "\xff"}', "it is not UTF-8, or holds half a surrogate pair"),
        (b'{"secret": "\\ud800"}', "it is not UTF-8, or holds half a surrogate pair"),
        (b"[" * 100_000, "it is nested too deep"),
    ],
)
def test_reason_contains_nothing_of_the_text(raw: bytes, reason: str) -> None:
    """The sender can find the position; a log with the reason contains nothing of the body."""
    with pytest.raises(UnreadableBody) as refused:
        parse_json(raw)
    assert str(refused.value) == f"the body is not accepted JSON: {reason}"


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", " :\t")])
@pytest.mark.parametrize(
    "value",
    [
        {"model": "m", "params": {"images": [LONG, OTHER, "short", LONG], "seed": 1.5}},
        {"a": LONG, "b": {"c": [[LONG], {}, None, True]}, "0": "0"},
        [LONG, "", OTHER],
        {LONG: LONG, OTHER: 1},
        {"n": list(range(LONG_BODY)), "a": LONG},
        {"quoted": 'a "quoted" \\ text\n', "a": LONG},
        {"mark": "\x000", "a": LONG},
    ],
)
def test_long_strings_are_read(value: object, separators: tuple[str, str]) -> None:
    """A body with inline media is read as any other, wherever its long strings are."""
    for ascii_only in (True, False):
        assert parse_json(json.dumps(value, separators=separators, ensure_ascii=ascii_only).encode()) == value


def test_decoder_gets_no_long_string(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's decoder, which is slow for them, does not see inline media."""
    seen: list[str] = []

    class Spy:
        def raw_decode(self, text: str) -> tuple[Any, int]:
            seen.append(text)
            return decoder.raw_decode(text)

    decoder = strict_json._DECODER
    monkeypatch.setattr(strict_json, "_DECODER", Spy())
    assert parse_json(json.dumps({"images": [LONG, LONG]}, separators=(",", ":")).encode()) == {"images": [LONG, LONG]}
    assert [len(text) < 100 for text in seen] == [True]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"a":"%s\n"}', "Invalid control character at"),
        (b'{"a":"%s\x00"}', "Invalid control character at"),
        (b'{"a":"%s\xff"}', "it is not UTF-8, or holds half a surrogate pair"),
        (b'{"a":"%s\xed\xa0\x80"}', "it is not UTF-8, or holds half a surrogate pair"),
        (b'{"a":"%s","a":1}', "a key is written twice"),
        (b'{"a":"%s","b":NaN}', "NaN is not a JSON number"),
        (b'{"a":"%s"} 2', "something follows the value"),
        (b'{"a":"%s"', "Expecting ',' delimiter"),
        (b'{"a":"%s', "Unterminated string starting at"),
        (b'{"a":"\x000","b":"%s"}', "Invalid control character at (line 1, column 7)"),
        (b'{"a":"%s" "b"}', "Expecting ',' delimiter"),
        (b'{"a":"%s","b":' + b"[" * 65 + b"]" * 65 + b"}", "the body is nested deeper than 64"),
    ],
)
def test_long_strings_hide_no_fault(raw: bytes, reason: str) -> None:
    """What is refused without a long string is refused beside one, with its place in the body."""
    with pytest.raises(UnreadableBody) as refused:
        parse_json(raw.replace(b"%s", LONG.encode()))
    assert reason in str(refused.value)


def test_repeated_long_key_is_refused() -> None:
    """Two equal keys are refused, however long they are."""
    with pytest.raises(UnreadableBody, match="a key is written twice"):
        parse_json(f'{{"{LONG}":1,"{LONG}":2}}'.encode())
