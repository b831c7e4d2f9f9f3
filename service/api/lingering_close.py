"""The end of a connection whose peer may still be sending: the response stays readable (RFC 9112, section 9.6)."""

import asyncio
from collections.abc import Callable

LINGER_SECONDS = 30.0
"""Maximum time for which bytes are discarded after the last response, in seconds; `lingering_time` of nginx."""

LINGER_PAUSE = 5.0
"""Time without a byte after which the peer is taken to have ended, in seconds; `lingering_timeout` of nginx."""

LINGER_BYTES = 256 * 1024 * 1024
"""Maximum number of discarded bytes of a body: many clients send the whole body before they read the response."""

LINGER_HEAD_BYTES = 4 * 1024 * 1024
"""Maximum number of discarded bytes where no body is expected: behind what cannot be parsed, or of further requests."""

STOP_SECONDS = 1.0
"""Maximum time for which bytes are discarded during a shutdown, in seconds."""


class LingeringTransport(asyncio.Transport):
    """A transport whose `close` first discards what the peer still sends, within bounds of time and size.

    TCP resets a connection that is closed with unread bytes. The reset makes a peer that still sends fail before it
    reads the response, and may delete the response on its way. So `close` ends the sending half only, and the rest when
    the peer has closed its half. `to_discard` returns how many bytes of what the peer may be sending are discarded;
    with 0 `close` is immediate. `on_linger` is called when the discarding begins.
    """

    def __init__(
        self, transport: asyncio.Transport, *, to_discard: Callable[[], int], on_linger: Callable[[], None]
    ) -> None:
        super().__init__()
        self._transport = transport
        self._to_discard = to_discard
        self._on_linger = on_linger
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        self._discarded = 0
        self._max_bytes = 0
        self._seconds = LINGER_SECONDS
        self.lingers = False

    def close(self) -> None:
        """Close the connection once the peer has stopped sending; everything written before is sent."""
        if self.is_closing():
            return
        self._max_bytes = self._to_discard()
        if not self._max_bytes:
            self._transport.close()
            return
        self.lingers = True
        self._until = self._loop.time() + self._seconds
        try:
            self._transport.write_eof()
        except OSError:  # the peer is gone already
            self._transport.abort()
        else:
            self._on_linger()
            self._wait(self._discarded)

    def discard(self, size: int) -> None:
        """Count `size` bytes that arrived after `close`; end the connection when there are too many."""
        self._discarded += size
        if self._discarded > self._max_bytes:
            self.end()

    def begin_shutdown(self) -> None:
        """Discard for at most STOP_SECONDS from now on, or from a later `close` on."""
        self._seconds = STOP_SECONDS
        if self.lingers:
            self._until = min(self._until, self._loop.time() + STOP_SECONDS)
            self._stop_timer()
            self._wait(self._discarded)

    def end(self) -> None:
        """Close the connection now; bytes that are unread reset it."""
        self._stop_timer()
        self._transport.close()

    def lost(self) -> None:
        """Stop the timer of a connection that is closed."""
        self._stop_timer()

    def _wait(self, discarded: int) -> None:
        """Check in LINGER_PAUSE whether more than `discarded` bytes have arrived."""
        pause = min(LINGER_PAUSE, max(0.0, self._until - self._loop.time()))
        self._timer = self._loop.call_later(pause, self._check, discarded)

    def _check(self, discarded: int) -> None:
        if self._discarded == discarded or self._loop.time() >= self._until:
            self.end()
        else:
            self._wait(self._discarded)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`; nothing after `close`."""
        if not self.lingers:
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Return whether `close` or `abort` was called, or the peer has closed the connection."""
        return self.lingers or self._transport.is_closing()

    def abort(self) -> None:
        """Close the connection now, with everything that is unsent."""
        self._stop_timer()
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that are not sent."""
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return what the transport knows about its socket."""
        return self._transport.get_extra_info(name, default)

    def is_reading(self) -> bool:
        """Return whether bytes are received."""
        return self._transport.is_reading()
