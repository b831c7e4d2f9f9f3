"""Immediate claims: what a transaction reserved is started after its commit, and only then."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from service.concurrency.immediate_claims import ImmediateClaims
from tests.support.delivery_builders import TIMEOUT


@dataclass(eq=False)
class Reserved:
    """The reservations of one transaction."""

    name: str = "a"


@dataclass
class Recorded:
    """Immediate claims with the names of what was released and started."""

    released: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)

    def claims(self) -> ImmediateClaims[Reserved]:
        """Return open claims that note what they release and start."""
        claims: ImmediateClaims[Reserved] = ImmediateClaims(release=lambda one: self.released.append(one.name))
        claims.open(lambda one: self.started.append(one.name))
        return claims


def test_reservations_are_started_after_the_transaction() -> None:
    """Capacity is released and the rows are started when the block ends, not before."""
    recorded = Recorded()
    with recorded.claims().transaction(Reserved()):
        assert (recorded.released, recorded.started) == ([], [])
    assert (recorded.released, recorded.started) == (["a"], ["a"])


def test_failed_transaction_releases_and_starts_nothing() -> None:
    """A transaction that raises returns its capacity; its rows do not exist."""
    recorded = Recorded()
    with suppress(ZeroDivisionError), recorded.claims().transaction(Reserved()):
        raise ZeroDivisionError
    assert (recorded.released, recorded.started) == (["a"], [])


def test_nothing_is_accepted_before_open() -> None:
    """A process that does not work on such rows reserves nothing for them."""
    claims: ImmediateClaims[Reserved] = ImmediateClaims(release=lambda _: None)
    assert not claims.accepting
    claims.open(lambda _: None)
    assert claims.accepting


async def test_close_waits_for_open_transactions_that_reserved() -> None:
    """Nothing new is accepted meanwhile, and what an open transaction reserved is still started."""
    recorded = Recorded()
    claims = recorded.claims()
    with claims.transaction(Reserved("idle")), claims.transaction(Reserved()) as reserved:
        claims.await_end(reserved)
        closing = asyncio.create_task(claims.close())
        await asyncio.sleep(0)
        assert (closing.done(), claims.accepting) == (False, False)
    async with asyncio.timeout(TIMEOUT):
        await closing
    assert recorded.started == ["a", "idle"]


async def test_transaction_that_outlasts_close_starts_nothing() -> None:
    """Once `close` was cancelled nobody waits for what would be started: the leases expire."""
    recorded = Recorded()
    claims = recorded.claims()
    with claims.transaction(Reserved()) as reserved:
        claims.await_end(reserved)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await claims.close()
    assert (recorded.released, recorded.started) == (["a"], [])
