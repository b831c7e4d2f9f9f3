"""The division of memory between clients: shares, turns, and no body that waits for another without end."""

import asyncio

import anyio
import anyio.lowlevel
import pytest

from service.concurrency.shared_bytes import BodyShare, SharedBytes


async def test_client_leaves_as_much_free_as_it_holds() -> None:
    """Of 32 bytes the first client takes 16, then the second 8, then the third 4."""
    pool = SharedBytes(total=32)
    taken: dict[str, int] = {}
    with pool.share("a") as a, pool.share("b") as b, pool.share("c") as c:
        for share in (a, b, c):
            while pool.grant(share, 1):
                taken[share.client] = taken.get(share.client, 0) + 1
        assert taken == {"a": 16, "b": 8, "c": 4}
    assert pool.free == 32


async def _arrive(pool: SharedBytes, client: str, label: str, done: list[str], *, parts: int, size: int) -> None:
    with pool.share(client) as share:
        for _ in range(parts):
            await share.take(size, seconds=60)
            await anyio.lowlevel.checkpoint()
        done.append(label)


@pytest.mark.parametrize("clients", [1, 2, 5])
async def test_bodies_that_hold_parts_do_not_wait_forever(clients: int) -> None:
    """Bodies larger than the pool, all begun at once, are all complete in the end, and every byte is free again."""
    pool, done = SharedBytes(total=10), list[str]()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for number in range(20):
                client = str(number % clients)
                group.start_soon(lambda c, n: _arrive(pool, c, n, done, parts=15, size=1), client, str(number))
    assert len(done) == 20
    assert (pool.free, pool.first, pool.waiting) == (10, None, [])


async def test_clients_are_first_in_turn() -> None:
    """A client with one body does not wait behind all bodies of another."""
    pool, done = SharedBytes(total=1), list[str]()
    async with anyio.create_task_group() as group:
        for label in ("a1", "a2", "a3", "a4", "b1"):
            group.start_soon(lambda name: _arrive(pool, name[0], name, done, parts=2, size=1), label)
    assert done[:2] == ["a1", "b1"]


async def test_cancelled_body_gives_everything_back() -> None:
    """A body whose sender disappears while it waits, or while it is first, holds nothing afterwards."""
    pool = SharedBytes(total=4)

    async def wait(share: BodyShare, size: int) -> None:
        await share.take(size, seconds=60)
        await anyio.sleep_forever()

    with pool.share("a") as first, pool.share("a") as second:
        async with anyio.create_task_group() as group:
            group.start_soon(wait, first, 100)
            group.start_soon(wait, second, 100)
            await anyio.wait_all_tasks_blocked()
            assert (pool.first, pool.waiting) == (first, [second])
            group.cancel_scope.cancel()
    assert (pool.free, pool.first, pool.waiting) == (4, None, [])


async def test_wait_ends_in_time() -> None:
    """Bytes that do not become free in time are an error, and the wait leaves nothing behind."""
    pool = SharedBytes(total=1)
    with pool.share("a") as first, pool.share("b") as second:
        await first.take(100, seconds=1)
        with pytest.raises(TimeoutError):
            await second.take(100, seconds=0.01)
        assert pool.waiting == []


async def test_older_body_of_a_client_is_served_before_its_newer_ones() -> None:
    """A large part waits until it is free; smaller ones of newer bodies would take what it waits for each time."""
    pool = SharedBytes(total=8)
    with pool.share("b") as other, pool.share("a") as old, pool.share("a") as new, pool.share("c") as third:
        assert pool.grant(other, 4)
        waiting = [asyncio.ensure_future(share.take(4, seconds=60)) for share in (third, old)]
        await asyncio.sleep(0)
        assert old in pool.waiting
        assert not pool.grant(new, 1)
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert pool.grant(new, 1)
