"""The registry of connections: which one is closed when there are too many, and which make no progress."""

import asyncio
from dataclasses import dataclass

from service.api import connections as connections_module
from service.api.connections import STALL_SECONDS, Connections


@dataclass(eq=False)
class FakeConnection:
    """A connection with `unsent` bytes."""

    unsent: int = 0
    aborted: bool = False

    def unsent_bytes(self) -> int:
        """Return the unsent bytes."""
        return self.unsent

    def abort(self) -> None:
        """Record the end."""
        self.aborted = True


def test_idle_connection_is_closed_first() -> None:
    """With too many connections the longest idle one goes; one whose request is in progress stays."""
    registry, found = Connections(maximum=3), [FakeConnection() for _ in range(3)]
    for each in found:
        registry.become_idle(each)
    registry.begin_request(found[0])
    assert registry.close_one_if_full(found[2], 3)
    assert not any(each.aborted for each in found)
    assert registry.close_one_if_full(FakeConnection(), 4)
    assert [each.aborted for each in found] == [False, True, False]
    registry.become_idle(found[2])
    assert registry.close_one_if_full(FakeConnection(), 4)
    assert [each.aborted for each in found] == [False, True, True]


def test_without_an_idle_connection_a_stalled_one_is_closed() -> None:
    """A peer that does not read gives way; without one the new connection is refused."""
    registry, busy, stalled = Connections(maximum=1), FakeConnection(), FakeConnection()
    registry.begin_request(busy)
    registry.stall(stalled)
    assert registry.close_one_if_full(FakeConnection(), 2)
    assert (stalled.aborted, busy.aborted) == (True, False)
    assert not registry.close_one_if_full(FakeConnection(), 2)
    assert registry.refused == 1


def test_refused_connections_that_stay_open_are_few_and_do_not_count() -> None:
    """A quarter as many as there may be connections may read the 503; none is closed for a new one."""
    registry, busy = Connections(maximum=8), [FakeConnection() for _ in range(8)]
    for each in busy:
        registry.begin_request(each)
    refused = [FakeConnection() for _ in range(5)]
    for each in refused:
        assert not registry.close_one_if_full(each, 8 + 1 + len(registry.refused_open))
        if each in registry.refused_open:
            registry.become_idle(each)
    assert registry.refused_open == set(refused[:2])
    assert not any(each.aborted for each in [*busy, *refused[:2]])
    registry.remove(refused[0])
    assert registry.refused_open == {refused[1]}


def test_peer_that_reads_nothing_is_closed() -> None:
    """A connection is closed after STALL_SECONDS in which nothing of its responses was taken."""
    registry, connection = Connections(), FakeConnection(unsent=100)
    assert registry.sweep([connection], 0.0) == 0
    assert registry.sweep([connection], STALL_SECONDS - 1) == 0
    assert registry.sweep([connection], STALL_SECONDS) == 1
    assert connection.aborted


def test_slow_peer_keeps_its_connection() -> None:
    """A peer that takes one byte between two sweeps is never closed; neither is one with nothing to take."""
    registry, slow, quiet = Connections(), FakeConnection(unsent=100), FakeConnection()
    for number in range(50):
        slow.unsent -= 1
        assert registry.sweep([slow, quiet], number * STALL_SECONDS) == 0


def test_reading_again_is_progress() -> None:
    """A peer that emptied the buffer between two sweeps made progress, although as much is unsent again."""
    registry, connection = Connections(), FakeConnection(unsent=100)
    registry.sweep([connection], 0.0)
    registry.proceed(connection)
    assert registry.sweep([connection], STALL_SECONDS) == 0


def test_unparsed_bytes_of_all_connections_are_bounded() -> None:
    """Many connections together hold no more than MAX_HELD_BYTES; what a closed one held is free again."""
    registry, found = Connections(), [FakeConnection() for _ in range(3)]
    half = connections_module.MAX_HELD_BYTES // 2
    assert [registry.hold(each, half) for each in found] == [True, True, False]
    registry.remove(found[2])
    assert registry.hold(found[0], half - 1)
    assert registry.hold(found[0], half)
    registry.remove(found[0])
    assert registry.hold(found[2], half)


def test_kernel_bytes_count_only_beside_unsent_ones() -> None:
    """Without bytes in this process nothing is held, whatever the kernel has."""

    class Transport(asyncio.Transport):
        def get_write_buffer_size(self) -> int:
            return 0

    assert connections_module.unacknowledged_bytes(Transport()) == 0
