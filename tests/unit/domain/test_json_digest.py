"""The digest of a JSON value: equal for every spelling of it, different for every other value."""

import json
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import json_digest as module
from service.domain.json_digest import json_digest


def _is_encodable(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
).filter(_is_encodable)


def _reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _reversed(value[name]) for name in reversed(value)}
    return [_reversed(inner) for inner in value] if isinstance(value, list) else value


@given(value=VALUES)
def test_spelling_does_not_count(value: object) -> None:
    """White space, escapes and the order of keys change nothing."""
    other = json.loads(json.dumps(_reversed(value), indent=3, ensure_ascii=True))
    assert json_digest(other) == json_digest(value)


@pytest.mark.parametrize(
    "spellings",
    [
        ["1", "1.0", "1e0", "10e-1", "1.000"],
        ["0", "-0", "0.0", "-0.0", "0e9"],
        ["0.1", "0.10", "1e-1"],
        ["1e21", "1000000000000000000000"],
        ['"A"', r'"\u0041"'],
        [r'"\ud83d\ude00"', '"\U0001f600"'],
    ],
)
def test_spellings_of_one_value(spellings: list[str]) -> None:
    """A number, or a text, is the same in each of its spellings."""
    assert len({json_digest(json.loads(each)) for each in spellings}) == 1


def test_different_values_differ() -> None:
    """The order of a list, the type of a value, what contains what, and whether a key is there all count."""
    texts = [
        "1", "2", "true", "false", "null", "0.1", '"1"', '"true"', '"null"', '"None"', '""', "[]", "{}", "[1]", "[1,2]",
        "[2,1]", "[12]", "[[1],2]", "[1,[2]]", "[[1,2]]", '["a","b"]', '["ab"]', '["a,b"]', '{"a":1}', '{"a":null}',
        '["a",1]', '{"a":"b"}', '{"a":["b"]}', '{"a":1,"b":2}', '{"a":2,"b":1}', '{"1":1}', '["1",1]', '"s1:a"', '"A"',
        "12345678901234567890", "12345678901234567891", "1.2345678901234567e19", '"\u00e9"', '"e\u0301"',
    ]  # fmt: skip
    for first, second in combinations(texts, 2):
        assert json_digest(json.loads(first)) != json_digest(json.loads(second)), (first, second)


def test_long_text_is_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pieces in which a long text is encoded do not show."""
    whole = json_digest("a\u00e9\U0001f600b" * 3)
    monkeypatch.setattr(module, "PIECE", 2)
    assert json_digest("a\u00e9\U0001f600b" * 3) == whole
