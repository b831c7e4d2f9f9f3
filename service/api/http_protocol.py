"""HTTP/1.1 over one connection: uvicorn's own, with the limits on heads that it lacks."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.request_bodies import WHOLE

MOST_HEAD = 64 * 1024
"""Bytes of a request's line and headers, trailers too: a callback's token and a browser's cookies fit many times."""

HEAD_SECONDS = 20.0
"""How long a head may take to arrive, and an unread body to end once it is answered."""

TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n"
    b"X-Content-Type-Options: nosniff\r\n\r\n"
)


BLANKS = b" \t"
"""What may stand around a header's value; the parser takes it away before the value, and leaves it behind."""


class HeadTooLarge(Exception):
    """A head that is longer than what we read of one."""


class BoundedProtocol(HttpToolsProtocol):
    """Hangs up on heads that are too long or too slow, so that nobody holds memory or connections without a request.

    `_bytes_without_progress` counts the bytes since the last whole head or body chunk, `_head` those of the head in
    hand, while `_in_head`. `_limit` is the running clock: None while a request is on its way, nothing has begun, or all
    came at once.
    """

    _bytes_without_progress = 0
    _head = 0
    _in_head = False
    _in_message = False
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Wait for the first head, not for ever."""
        super().connection_made(transport)
        self._start_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and hang up when too many of them came to nothing."""
        self._bytes_without_progress += len(data)
        super().data_received(data)
        if self._bytes_without_progress > MOST_HEAD and not self.transport.is_closing():
            self._refuse()
        elif self._in_head or (self._bytes_without_progress and not self._in_message):
            self._start_clock()

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._head = 0
        self._in_head = True
        self._in_message = False

    def on_url(self, url: bytes) -> None:
        """Take a piece of the address."""
        self._head += len(url)  # written out here and below: a call for each header is what a small request notices
        if self._head > MOST_HEAD:
            raise HeadTooLarge
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header without the blanks around its value, which are no part of it (RFC 9110, 5.5).

        A trailer counts for nothing: no proxy before us has looked at it (RFC 9110, 6.5.1).
        """
        self._head += len(name) + len(value)
        if self._head > MOST_HEAD:
            raise HeadTooLarge
        if not self._in_message:
            super().on_header(name, value.strip(BLANKS))

    def on_headers_complete(self) -> None:
        """End the head in time."""
        self._in_head = False
        self._in_message = True
        self._bytes_without_progress = 0
        self._stop_clock()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._bytes_without_progress = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        self.scope["state"][WHOLE] = True
        self._in_message = False
        self._bytes_without_progress = 0
        self._stop_clock()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Give the rest of a body that nobody reads as long as a head."""
        super().on_response_complete()
        if self._in_message:
            self._start_clock()

    def _start_clock(self) -> None:
        if self._limit is None:
            self._limit = self.loop.call_later(HEAD_SECONDS, self._ring)

    def _stop_clock(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _ring(self) -> None:
        self._limit = None
        if self._answering():
            self._start_clock()
        elif not self.transport.is_closing():
            self.transport.close()

    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        return cycle is not None and not cycle.response_complete

    def _refuse(self) -> None:
        if not self._answering():
            self.transport.write(TOO_LARGE)
        self.transport.close()
