"""Bytes as the source of every decision of a fuzz target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


@dataclass
class Feed:
    """Bytes, eaten from the front; when they are used up there is nothing but zeros."""

    data: bytes
    at: int = 0

    def byte(self) -> int:
        """Return the next byte as a number."""
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def one_of(self, among: Sequence[T]) -> T:
        """Return one of `among`."""
        return among[self.byte() % len(among)]

    def part(self) -> bytes:
        """Return a part, whose length comes first."""
        size = self.byte()
        self.at += size
        return self.data[self.at - size : self.at]

    def rest(self) -> bytes:
        """Return all that is left."""
        left, self.at = self.data[self.at :], len(self.data)
        return left

    def text(self) -> str:
        """Return all that is left as text, whatever it is."""
        return as_text(self.rest())


def as_text(raw: bytes) -> str:
    """Return bytes as text: UTF-8, and lone surrogates for what is none."""
    return raw.decode("utf-8", "surrogateescape")


def edited(text: str, feed: Feed) -> str:
    """Return `text` with what the feed says cut out, put in or changed."""
    for _ in range(feed.byte() % 4):
        at, cut, put = feed.byte() % (len(text) + 1), feed.byte() % 3, as_text(feed.part())
        text = text[:at] + put + text[at + cut :]
    return text


def tried(call: Callable[[], T], refusal: type[E]) -> T | E:
    """Return what `call` returns, or its `refusal`; anything else that it raises is a finding."""
    try:
        return call()
    except refusal as refused:
        return refused
