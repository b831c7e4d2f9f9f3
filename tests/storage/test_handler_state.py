"""The values of handlers by key, on each database."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from service.deliveries.handler_state import MAX_VALUE, HandlerState
from service.storage import Store
from service.storage.handler_tables import handler_state
from tests.storage.builders import NOW
from tests.storage.conftest import OpenStore
from tests.support.delivery_builders import ManualClock

MINUTE = 60.0


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock that the test moves."""
    return ManualClock(NOW)


@pytest.fixture
def state(store: Store, clock: ManualClock) -> HandlerState:
    """Return the state of one handler."""
    return HandlerState(store=store.handler_state, handler="bot", now=clock.now)


def after(clock: ManualClock, seconds: float) -> None:
    """Move the clock."""
    clock.at += timedelta(seconds=seconds)


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "text \x00 \U0001f600", [], {}, {"a": [1, {"b": None}]}])
async def test_every_json_value_is_returned_as_it_was_set(state: HandlerState, value: Any) -> None:
    """A later value replaces it, and a deleted one is absent."""
    assert await state.get("key", "absent") == "absent"
    await state.set("key", value)
    assert await state.get("key", "absent") == value
    await state.set("key", "later")
    assert await state.get("key") == "later"
    assert [await state.delete("key"), await state.delete("key")] == [True, False]
    assert await state.get("key", "absent") == "absent"


async def test_handlers_do_not_see_the_values_of_others(store: Store, clock: ManualClock, state: HandlerState) -> None:
    """The same key of another handler is another value."""
    other = HandlerState(store=store.handler_state, handler="other", now=clock.now)
    await state.set("key", 1)
    assert await other.get("key") is None
    assert await other.add("key", 2)
    assert [await state.get("key"), await other.get("key")] == [1, 2]


async def test_expired_value_counts_as_absent(state: HandlerState, clock: ManualClock) -> None:
    """From the moment of its expiry, for every method."""
    await state.set("key", [1], expires_in=MINUTE)
    after(clock, 59.999)
    assert await state.get("key") == [1]
    after(clock, 0.001)
    assert await state.get("key") is None
    assert await state.add("key", [2], expires_in=timedelta(minutes=1))
    assert not await state.add("key", [3])
    after(clock, 60)
    assert await state.append("key", 4) == [4]
    assert await state.get("key") == [4]


async def test_expiry_counts_from_the_first_change(state: HandlerState, clock: ManualClock) -> None:
    """A count for a day ends with the day that began at its first increment; `set` begins anew."""
    for expected in (1, 2):
        assert await state.increment("count", expires_in=MINUTE) == expected
        after(clock, 30)
    assert await state.increment("count", expires_in=MINUTE) == 1
    await state.set("count", 7, expires_in=MINUTE)
    after(clock, 59)
    assert await state.get("count") == 7


async def test_increment_stops_at_its_limit(state: HandlerState) -> None:
    """A refused increment changes nothing; what is released can be taken again."""
    assert [await state.increment("count", limit=2) for _ in range(3)] == [1, 2, None]
    assert await state.get("count") == 2
    assert await state.increment("count", -1, limit=2) == 1
    assert await state.increment("count", 2, limit=2) is None
    assert await state.increment("count", limit=2) == 2


async def test_append_stops_at_its_limit(state: HandlerState) -> None:
    """A refused item is not in the list."""
    assert [await state.append("list", one, max_items=2) for one in "abc"] == [["a"], ["a", "b"], None]
    assert await state.pop("list") == ["a", "b"]
    assert await state.pop("list", "absent") == "absent"


async def test_replace_compares_with_the_stored_value(state: HandlerState) -> None:
    """None stands for an absent value, as the old and as the new one."""
    assert not await state.replace("key", {"a": 1}, 2)
    assert await state.replace("key", None, {"a": 1})
    assert not await state.replace("key", None, 2)
    assert await state.replace("key", {"a": 1}, 2)
    assert not await state.replace("key", 1, None)
    assert await state.replace("key", 2, None)
    assert await state.get("key", "absent") == "absent"


@pytest.mark.parametrize("key", ["", "x" * 201, "two\nlines", "\x00"])
async def test_key_that_is_not_allowed_is_refused(state: HandlerState, key: str) -> None:
    """A key has 1 to 200 printable characters."""
    with pytest.raises(ValueError, match="printable"):
        await state.set(key, 1)
    with pytest.raises(ValueError, match="printable"):
        await state.get(key)


async def test_value_that_is_not_allowed_is_refused_and_changes_nothing(state: HandlerState) -> None:
    """A value is JSON of at most 64 KiB, also when it grows to that."""
    await state.set("x" * 200, "x" * (MAX_VALUE - 2))
    for value in ("x" * (MAX_VALUE - 1), object(), float("nan"), {1, 2}):
        with pytest.raises(ValueError, match="JSON"):
            await state.set("key", value)
    await state.append("list", "x" * 60_000)
    with pytest.raises(ValueError, match="at most"):
        await state.append("list", "x" * 6_000)
    assert await state.append("list", "y") == ["x" * 60_000, "y"]


async def test_wrong_kind_of_value_is_refused(state: HandlerState) -> None:
    """A text is neither counted nor appended to."""
    await state.set("key", "text")
    for change in (state.increment("key"), state.append("key", 1)):
        with pytest.raises(TypeError, match="is no"):
            await change
    assert await state.get("key") == "text"


async def test_concurrent_changes_of_two_processes_lose_nothing(open_another: OpenStore, clock: ManualClock) -> None:
    """Of concurrent adds one wins, each increment and item counts, and one process gets what is popped."""
    states = [HandlerState(store=open_another().handler_state, handler="bot", now=clock.now) for _ in range(2)]
    both = [each for _ in range(10) for each in states]
    assert sum(await asyncio.gather(*(each.add("first") for each in both))) == 1
    counts = await asyncio.gather(*(each.increment("count", limit=15) for each in both))
    assert sorted(count for count in counts if count) == list(range(1, 16))
    await asyncio.gather(*(each.append("list", number) for number, each in enumerate(both)))
    assert sorted(await states[0].get("list")) == list(range(20))
    popped = await asyncio.gather(*(each.pop("list") for each in both))
    assert sum(found is not None for found in popped) == 1


async def test_prune_deletes_expired_values_alone(store: Store, state: HandlerState, clock: ManualClock) -> None:
    """A value without expiry stays forever."""
    await state.set("forever", 1)
    await state.set("later", 1, expires_in=2 * MINUTE)
    for number in range(5):
        await state.set(f"expired {number}", 1, expires_in=MINUTE)
    after(clock, 60)
    assert await store.handler_state.prune(now=clock.now()) == 5
    async with store._database.reading() as connection:
        assert (await connection.execute(select(func.count()).select_from(handler_state))).scalar_one() == 2
