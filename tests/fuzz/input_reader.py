"""Read the decisions of a fuzz target from its input bytes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


@dataclass
class InputReader:
    """Reader of the input bytes; returns zeros after their end."""

    data: bytes
    position: int = 0

    def byte(self) -> int:
        """Return the next byte as a number."""
        self.position += 1
        return self.data[self.position - 1] if self.position <= len(self.data) else 0

    def choose(self, options: Sequence[T]) -> T:
        """Return one of `options`."""
        return options[self.byte() % len(options)]

    def chunk(self) -> bytes:
        """Return a chunk; its length comes first."""
        size = self.byte()
        self.position += size
        return self.data[self.position - size : self.position]

    def rest(self) -> bytes:
        """Return all remaining bytes."""
        left, self.position = self.data[self.position :], len(self.data)
        return left

    def text(self) -> str:
        """Return all remaining bytes as text."""
        return as_text(self.rest())


def as_text(raw: bytes) -> str:
    """Return bytes as text: UTF-8, with lone surrogates for invalid bytes."""
    return raw.decode("utf-8", "surrogateescape")


def mutated(text: str, reader: InputReader) -> str:
    """Return `text` with up to three parts deleted, inserted or replaced."""
    for _ in range(reader.byte() % 4):
        position, cut, put = reader.byte() % (len(text) + 1), reader.byte() % 3, as_text(reader.chunk())
        text = text[:position] + put + text[position + cut :]
    return text


def result_or_error(call: Callable[[], T], refusal: type[E]) -> T | E:
    """Return the result of `call`, or its `refusal`; any other exception is a finding."""
    try:
        return call()
    except refusal as refused:
        return refused
