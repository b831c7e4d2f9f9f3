"""The list of attempts, and how to run one."""

import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

TIMEOUT = 60.0
"""Time limit of an attempt in seconds; a longer one counts as a success of the attack."""

Run = Callable[[Path], Awaitable[str]]


class AttackSucceeded(AssertionError):
    """An attack succeeded; the message names the gain."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attack: `run` gets an empty directory, returns the result, and raises AttackSucceeded on success."""

    group: str
    name: str
    run: Run = field(repr=False)

    @property
    def id(self) -> str:
        """Return the name of its test."""
        return f"{self.group}: {self.name}"


ATTEMPTS: list[Attempt] = []


def attempt(group: str, name: str) -> Callable[[Run], Run]:
    """Add the decorated function to the list."""

    def listed(run: Run) -> Run:
        ATTEMPTS.append(Attempt(group=group, name=name, run=run))
        return run

    return listed


def add(group: str, name: str, run: Run) -> None:
    """Add one of many similar attempts to the list."""
    ATTEMPTS.append(Attempt(group=group, name=name, run=run))


def require(fine: bool, gained: str) -> None:
    """Raise AttackSucceeded with the gain unless `fine` is true."""
    if not fine:
        raise AttackSucceeded(gained)


@contextmanager
def peak() -> Iterator[list[int]]:
    """Yield a list that contains, after the block, the peak memory of Python inside it in bytes."""
    found = [0]
    tracemalloc.start()
    try:
        yield found
        found[0] = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def run(one: Attempt, home: Path) -> str:
    """Run an attempt in the empty directory `home`; return its result, or raise AttackSucceeded."""
    await anyio.Path(home).mkdir(parents=True, exist_ok=True)
    try:
        with anyio.fail_after(TIMEOUT):
            return await one.run(home)
    except TimeoutError:
        raise AttackSucceeded(f"no end within {TIMEOUT:g} s") from None
