"""The list of attempts, and how one is played."""

import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

PATIENCE = 60.0
"""Seconds after which an attempt that goes on counts as a hole: something hangs."""

Play = Callable[[Path], Awaitable[str]]


class Hole(AssertionError):
    """An attempt that got through; says what it gained."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One way to attack: `play` gets an empty directory, returns what happened, and raises Hole when it worked."""

    group: str
    name: str
    play: Play = field(repr=False)

    @property
    def id(self) -> str:
        """Return a name for the test that plays it."""
        return f"{self.group}: {self.name}"


ATTEMPTS: list[Attempt] = []


def attempt(group: str, name: str) -> Callable[[Play], Play]:
    """Put the decorated function on the list."""

    def listed(play: Play) -> Play:
        ATTEMPTS.append(Attempt(group=group, name=name, play=play))
        return play

    return listed


def add(group: str, name: str, play: Play) -> None:
    """Put one of many similar attempts on the list."""
    ATTEMPTS.append(Attempt(group=group, name=name, play=play))


def hold(fine: bool, gained: str) -> None:
    """Raise Hole with what was gained unless all is fine."""
    if not fine:
        raise Hole(gained)


@contextmanager
def peak() -> Iterator[list[int]]:
    """Give a list that holds, after the block, by how many bytes Python's memory had grown at most inside it."""
    found = [0]
    tracemalloc.start()
    try:
        yield found
        found[0] = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def play(one: Attempt, home: Path) -> str:
    """Play an attempt in the empty directory `home`; return what happened, raise Hole when it worked."""
    await anyio.Path(home).mkdir(parents=True, exist_ok=True)
    try:
        with anyio.fail_after(PATIENCE):
            return await one.play(home)
    except TimeoutError:
        raise Hole(f"it still hung after {PATIENCE:g} s") from None
