"""An amount is divided between clients: shares, turns, and nothing is lost."""

from collections.abc import Sequence

import anyio
import pytest

from service.concurrency.fair_queue import FairQueue, FairRequest
from service.concurrency.fair_semaphore import FairSemaphore


class Recorded:
    """A queue, and the names of the requests in the order in which they were granted."""

    def __init__(self, total: int) -> None:
        self.queue = FairQueue(total)
        self.granted: list[str] = []
        self.requests: dict[str, FairRequest] = {}

    def add(self, name: str, size: int = 1) -> None:
        """Add a request of the client that is the first letter of `name`."""
        client = name[0] if name[0] != "-" else None
        request = FairRequest(client=client, size=size, grant=lambda: self.granted.append(name))
        self.requests[name] = request
        self.queue.add(request)

    def end(self, *names: str) -> None:
        """End requests, granted or not."""
        for name in names:
            self.queue.remove(self.requests.pop(name))

    def since(self, count: int) -> Sequence[str]:
        """Return what was granted after the first `count` grants."""
        return self.granted[count:]


def test_flood_of_one_client_leaves_threads_for_others() -> None:
    """Of four threads the first client gets two, a second one and a third one find a free thread at once."""
    threads = Recorded(4)
    for number in range(100):
        threads.add(f"a{number}")
    assert threads.granted == ["a0", "a1"]
    threads.add("b0")
    threads.add("c0")
    assert threads.since(2) == ["b0", "c0"]
    threads.add("b1")
    assert threads.since(4) == []


def test_clients_take_turns() -> None:
    """Behind a flood a client waits for one request of each other client, not for the whole flood."""
    threads = Recorded(1)
    for number in range(50):
        threads.add(f"a{number}")
    for name in ("b0", "b1", "c0"):
        threads.add(name)
    order = []
    while threads.requests:
        order.append(threads.granted[-1])
        threads.end(threads.granted[-1])
    assert order[:6] == ["a0", "b0", "c0", "a1", "b1", "a2"]
    assert len(order) == 53


def test_share_is_measured_in_the_amount() -> None:
    """A client that holds 24 of 48 gets no more; another one gets as much, and the first of a third one waits."""
    memory = Recorded(48)
    for name in ("a0", "a1", "b0", "c0"):
        memory.add(name, 24)
    assert memory.granted == ["a0", "b0"]
    memory.end("a0")
    assert memory.since(2) == ["c0"]
    memory.end("b0", "c0")
    assert memory.since(3) == ["a1"]


def test_large_request_is_not_overtaken_in_its_turn() -> None:
    """Small requests of others do not keep a large one waiting without end."""
    memory = Recorded(10)
    memory.add("a0", 4)
    memory.add("b0", 9)
    memory.add("c0", 1)
    assert memory.granted == ["a0"]
    memory.end("a0")
    assert memory.granted == ["a0", "b0", "c0"]


def test_request_above_its_share_holds_up_nobody() -> None:
    """What waits only for its own client's share leaves the turn to others."""
    memory = Recorded(10)
    memory.add("a0", 4)
    memory.add("a1", 4)
    memory.add("b0", 6)
    assert memory.granted == ["a0", "b0"]


def test_without_a_client_all_is_one_queue() -> None:
    """Requests of no client are granted first come, first served, up to the total."""
    memory = Recorded(10)
    for name, size in (("-0", 6), ("-1", 4), ("-2", 8), ("-3", 1)):
        memory.add(name, size)
    assert memory.granted == ["-0", "-1"]
    memory.end("-1")
    assert memory.since(2) == []
    memory.end("-0")
    assert memory.since(2) == ["-2", "-3"]


def test_abandoned_request_lets_others_through() -> None:
    """A request that waits no longer holds up nothing and leaks nothing."""
    memory = Recorded(10)
    for name, size in (("a0", 5), ("b0", 8), ("c0", 5)):
        memory.add(name, size)
    assert memory.granted == ["a0"]
    memory.end("b0")
    assert memory.granted == ["a0", "c0"]
    memory.end("a0", "c0")
    assert memory.queue.free == 10
    memory.add("b1", 99)
    assert memory.since(2) == ["b1"]
    assert memory.queue.free == 0


async def test_semaphore_divides_between_clients() -> None:
    """A second client is let in while the first one's other requests wait."""
    semaphore, seen, hold = FairSemaphore(2), list[str](), anyio.Event()

    async def take(client: str) -> None:
        async with semaphore.hold(1, client=client):
            seen.append(client)
            await hold.wait()

    async with anyio.create_task_group() as group:
        for client in "aaaab":
            group.start_soon(take, client)
            await anyio.wait_all_tasks_blocked()
        assert seen == ["a", "b"]
        hold.set()
    assert sorted(seen) == ["a", "a", "a", "a", "b"]


async def test_semaphore_that_times_out_leaks_nothing() -> None:
    """A request that waited too long raises TimeoutError, and everything is free afterwards."""
    semaphore = FairSemaphore(1)
    async with semaphore.hold(1, client="a"):
        with pytest.raises(TimeoutError):
            async with semaphore.hold(1, client="b", seconds=0):
                pass
    async with semaphore.hold(1, client="b", seconds=0.1):
        pass
