"""Ranges of bytes and versions, as RFC 9110 has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.byte_ranges import ByteRange, Unsatisfiable, has_current, requested_range

TAG = '"v1"'


@pytest.mark.parametrize(
    ("text", "start", "stop"),
    [
        ("bytes=0-", 0, 100),
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=99-", 99, 100),
        ("bytes=90-500", 90, 100),
        ("bytes=-1", 99, 100),
        ("bytes=-500", 0, 100),
        ("Bytes = 5-6 ", 5, 7),
        ("bytes=0-99999999999999999", 0, 100),
    ],
)
def test_one_range(text: str, start: int, stop: int) -> None:
    """A range names its first and last byte, or how many at the end; what is beyond the end is left out."""
    assert requested_range([text], [], TAG, 100) == ByteRange(start, stop)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "bytes=a-b",
        "bytes=0-1,3-4",
        "lines=0-1",
        "bytes=--1",
        "bytes=1",
        "bytes=0-1, -1",
        "bytes=+1-2",
        "bytes=0x1-2",
        "bytes=1_0-20",
        "bytes=" + "0" * 5000 + "-",
        "bytes=0-" + "," * 9000,
    ],
)
def test_other_ranges_are_ignored(text: str) -> None:
    """Several ranges, other units and text of no meaning are answered with the whole content, in no time."""
    assert requested_range([text], [], TAG, 100) is None


@pytest.mark.parametrize("text", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_range_behind_the_end(text: str) -> None:
    """A range without a byte of the content cannot be satisfied."""
    with pytest.raises(Unsatisfiable):
        requested_range([text], [], TAG, 100)


def test_if_range() -> None:
    """The range counts only for the version that the client has; a date, a weak tag and two headers are no version."""
    assert requested_range(["bytes=1-2"], [TAG], TAG, 100) == ByteRange(1, 3)
    for other in (['"v2"'], ['W/"v1"'], ["Wed, 06 May 2026 12:09:42 GMT"], [TAG, TAG], [""]):
        assert requested_range(["bytes=1-2"], other, TAG, 100) is None
    assert requested_range(["bytes=1-2", "bytes=1-2"], [], TAG, 100) is None


@pytest.mark.parametrize(
    ("values", "current"),
    [
        ([], False),
        ([TAG], True),
        (['W/"v1"'], True),
        (["*"], True),
        (['"v0", "v1"'], True),
        (['"v0"', '"v1"'], True),
        (['"v2"'], False),
        (["v1"], False),
        (['"a,"v1""'], False),
        (['"' * 9000], False),
    ],
)
def test_if_none_match(values: list[str], current: bool) -> None:
    """A list of tags is compared weakly; text that is no tag names none."""
    assert has_current(values, TAG) is current


@given(st.integers(1, 10**12), st.integers(0, 10**13), st.integers(0, 10**13))
def test_range_is_always_inside(size: int, first: int, last: int) -> None:
    """Whatever is asked for, the range has at least one byte and none outside of the content."""
    try:
        found = requested_range([f"bytes={first}-{last}"], [], TAG, size)
    except Unsatisfiable:
        assert first >= size
        return
    assert found is None if last < first else found == ByteRange(first, min(last + 1, size))
