"""Refused JSON: the reason is reported, without any of the text."""

import pytest

from service.domain.errors import UnreadableBody
from service.domain.strict_json import parse_json


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
