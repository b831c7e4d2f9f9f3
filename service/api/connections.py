"""The open connections of a server: how many there may be, which one is closed first, and which make no progress."""

import struct
import sys
from asyncio import Transport
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.server import ServerState

if sys.platform != "win32":
    import fcntl
    import termios

MAX_CONNECTIONS = 8192
"""Maximum number of open connections; the limit of open files may allow fewer."""

STALL_SECONDS = 30.0
"""Time after which a connection is closed whose peer has taken nothing of its responses, in seconds."""

MAX_HELD_BYTES = 32 * 1024 * 1024
"""Maximum bytes of requests that wait unparsed behind others, of all connections together."""

MAX_REFUSED_OPEN = 64
"""Maximum number of refused connections that stay open until their peers have read the 503."""

SWEEP_INTERVAL = 5
"""Seconds between two checks for connections without progress."""

log = structlog.get_logger("boomerang.api")


class Connection(Protocol):
    """A connection as the registry needs it: `unsent_bytes` is 0 while the peer reads every response at once."""

    def unsent_bytes(self) -> int:
        """Return the bytes of responses that the peer has not taken."""

    def abort(self) -> None:
        """Close the connection now, with everything that is unsent."""


@dataclass(kw_only=True, slots=True)
class _Unsent:
    """How much a peer had not taken at the last progress, and when that was in seconds of the loop's time."""

    size: int
    since: float


@dataclass(kw_only=True)
class Connections:
    """The connections of a server, at most `maximum`.

    `idle` has those without a request in progress, the longest idle one first. `stalled` has those whose peer does not
    read its responses, the longest stalled one first. `refused_open` has those that were refused and are still open;
    they do not count.
    """

    maximum: int = MAX_CONNECTIONS
    idle: dict[Connection, None] = field(default_factory=dict)
    stalled: dict[Connection, None] = field(default_factory=dict)
    refused_open: set[Connection] = field(default_factory=set)
    refused: int = 0
    _held: dict[Connection, int] = field(default_factory=dict)
    _held_bytes: int = 0
    _unsent: dict[Connection, _Unsent] = field(default_factory=dict)

    def close_one_if_full(self, newest: Connection, count: int) -> bool:
        """Close one of `count` connections if they are too many; return whether `newest`, one of them, may stay.

        The longest idle one is closed first, then the longest stalled one. Requests in progress are never ended. A
        refused one is added to `refused_open` unless that is full.
        """
        if count - len(self.refused_open) <= self.maximum:
            return True
        victim = next(iter(self.idle), None) or next(iter(self.stalled), None)
        if victim is None:
            self.refused += 1
            if len(self.refused_open) < min(MAX_REFUSED_OPEN, max(1, self.maximum // 4)):
                self.refused_open.add(newest)
            return False
        self.remove(victim)
        victim.abort()
        return True

    def begin_request(self, connection: Connection) -> None:
        """Note that `connection` is not idle."""
        self.idle.pop(connection, None)

    def become_idle(self, connection: Connection) -> None:
        """Note that `connection` is idle from now on."""
        self.idle.pop(connection, None)
        if connection not in self.refused_open:
            self.idle[connection] = None

    def stall(self, connection: Connection) -> None:
        """Note that the peer of `connection` does not read."""
        self.stalled.setdefault(connection, None)

    def proceed(self, connection: Connection) -> None:
        """Note that the peer of `connection` reads again."""
        self.stalled.pop(connection, None)
        self._unsent.pop(connection, None)

    def hold(self, connection: Connection, size: int) -> bool:
        """Note that `connection` holds `size` unparsed bytes; return False if that is too much for all together."""
        grows = size - self._held.pop(connection, 0)
        if size:
            self._held[connection] = size
        self._held_bytes += grows
        return grows <= 0 or self._held_bytes <= MAX_HELD_BYTES

    def remove(self, connection: Connection) -> None:
        """Remove a closed connection."""
        self.hold(connection, 0)
        self.idle.pop(connection, None)
        self.refused_open.discard(connection)
        self.proceed(connection)

    def sweep(self, connections: Iterable[Connection], now: float) -> int:
        """Close those of `connections` whose peer has taken nothing for STALL_SECONDS; return how many.

        A slow peer that takes anything between two sweeps keeps its connection. A connection that is being closed
        counts too: its last response waits for the peer.
        """
        closed = 0
        for connection in list(connections):
            size = connection.unsent_bytes()
            before = self._unsent.get(connection)
            if not size:
                self._unsent.pop(connection, None)
            elif before is None or size < before.size:
                self._unsent[connection] = _Unsent(size=size, since=now)
            elif now - before.since >= STALL_SECONDS:
                self.remove(connection)
                connection.abort()
                closed += 1
        if closed:
            log.info("connections closed, their responses were not read", count=closed)
        return closed


class BoundedServerState(ServerState):
    """The state of a server, with the registry of its connections."""

    def __init__(self, registry: Connections) -> None:
        super().__init__()
        self.registry = registry


class BoundedFlow(FlowControl):
    """Reads from a connection only while its requests are taken and its responses are read.

    `held` is set while received requests wait behind others.
    """

    held = False
    _wanted = True

    def pause_reading(self) -> None:
        """Stop reading until `resume_reading`."""
        self._wanted = False
        self._apply()

    def resume_reading(self) -> None:
        """Read again, as soon as nothing is held and the responses are read."""
        self._wanted = True
        self._apply()

    def hold(self, held: bool) -> None:
        """Set whether received requests wait behind others."""
        self.held = held
        self._apply()

    def pause_writing(self) -> None:
        """Stop reading too: the peer does not read."""
        super().pause_writing()
        self._apply()

    def resume_writing(self) -> None:
        """Read again too."""
        super().resume_writing()
        self._apply()

    def _apply(self) -> None:
        pause = self.held or self.write_paused or not self._wanted
        if pause != self.read_paused and not self._transport.is_closing():
            if pause:
                super().pause_reading()
            else:
                super().resume_reading()


def unacknowledged_bytes(transport: Transport) -> int:
    """Return how many bytes of `transport` the peer has not acknowledged; 0 when none waits in this process.

    The bytes in the kernel count too: a peer that reads slowly takes those first.
    """
    size = transport.get_write_buffer_size()
    if size and sys.platform != "win32":
        with suppress(OSError, ValueError, AttributeError):
            file = transport.get_extra_info("socket").fileno()
            size += struct.unpack("i", fcntl.ioctl(file, termios.TIOCOUTQ, b"\0" * 4))[0]
    return size
