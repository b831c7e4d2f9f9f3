"""The list of attempts, and how to run one."""

import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from tests.security.environment import ServiceUnderTest

TIMEOUT = 60.0
"""Time limit of an attempt in seconds; a longer one counts as a success of the attack."""

Run = Callable[[Path], Awaitable[str]]
Check = Callable[[ServiceUnderTest], Awaitable[str]]
Environment = Callable[[Path], AbstractAsyncContextManager[ServiceUnderTest]]


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


@dataclass(frozen=True, kw_only=True)
class SharedAttempts:
    """Attacks that run one after another in one environment, which takes longer to start than each of them."""

    group: str
    checks: Mapping[str, Check] = field(repr=False)
    environment: Environment = field(repr=False)

    async def results(self, home: Path, part: str = "") -> list[tuple[str, str | Exception]]:
        """Run every attack whose id contains `part`; return its id, and its result or the error of a success."""
        chosen = [(f"{self.group}: {name}", check) for name, check in self.checks.items()]
        chosen = [(name, check) for name, check in chosen if part in name]
        if not chosen:
            return []
        async with self.environment(home) as service:
            return [(name, await _result(check, service)) for name, check in chosen]


ATTEMPTS: list[Attempt] = []
SHARED: list[SharedAttempts] = []


def attempt(group: str, name: str) -> Callable[[Run], Run]:
    """Add the decorated function to the list."""

    def listed(run: Run) -> Run:
        ATTEMPTS.append(Attempt(group=group, name=name, run=run))
        return run

    return listed


def add(group: str, name: str, run: Run) -> None:
    """Add one of many similar attempts to the list."""
    ATTEMPTS.append(Attempt(group=group, name=name, run=run))


def check_all(group: str, checks: Mapping[str, Check], environment: Environment) -> None:
    """Add attempts that share one environment, as none of them changes it when it is blocked."""
    SHARED.append(SharedAttempts(group=group, checks=checks, environment=environment))


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


async def _result(check: Check, service: ServiceUnderTest) -> str | Exception:
    try:
        with anyio.fail_after(TIMEOUT):
            return await check(service)
    except TimeoutError:
        return AttackSucceeded(f"no end within {TIMEOUT:g} s")
    except Exception as error:  # noqa: BLE001 - the others run too
        return error


async def run(one: Attempt, home: Path) -> str:
    """Run an attempt in the empty directory `home`; return its result, or raise AttackSucceeded."""
    await anyio.Path(home).mkdir(parents=True, exist_ok=True)
    try:
        with anyio.fail_after(TIMEOUT):
            return await one.run(home)
    except TimeoutError:
        raise AttackSucceeded(f"no end within {TIMEOUT:g} s") from None
