"""HTTP/1.1 on one connection: uvicorn's protocol with limits on the size and the time of request heads."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api.request_bodies import BODY_COMPLETE

MAX_HEAD = 64 * 1024
"""Maximum size of request line, headers and trailers in bytes; callback tokens and cookies of browsers fit easily."""

HEAD_SECONDS = 20.0
"""Time limit for a head, and for the rest of a body that is unread when the response is complete, in seconds."""

HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n"
    b"X-Content-Type-Options: nosniff\r\n\r\n"
)


WHITESPACE = b" \t"
"""Optional whitespace around a header value. The parser removes it before the value and leaves it after the value."""


class HeadTooLarge(Exception):
    """A request head is larger than MAX_HEAD."""


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose request heads are too large or too slow.

    `_bytes_without_progress` counts the bytes since the last complete head or part of a body. `_head` counts the bytes
    of the current head while `_in_head` is set. `_timer` is None while a request is processed, while the connection is
    idle between requests, and when a request arrived in one piece.
    """

    _bytes_without_progress = 0
    _head = 0
    _in_head = False
    _in_message = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Start the time limit for the first head."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes, and close the connection when too many of them completed nothing."""
        self._bytes_without_progress += len(data)
        super().data_received(data)
        if self._bytes_without_progress > MAX_HEAD and not self.transport.is_closing():
            if not self._is_responding():
                self.transport.write(HEAD_TOO_LARGE)
            self.transport.close()
        elif self._in_head or (self._bytes_without_progress and not self._in_message):
            self._start_timer()

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._head = 0
        self._in_head = True
        self._in_message = False

    def on_url(self, url: bytes) -> None:
        """Add a part of the request target; raises HeadTooLarge."""
        self._head += len(url)  # repeated in on_header: a call per header would be measurable for small requests
        if self._head > MAX_HEAD:
            raise HeadTooLarge
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header without the whitespace around its value (RFC 9110, 5.5); raises HeadTooLarge.

        Trailers are ignored: no proxy has checked them (RFC 9110, 6.5.1).
        """
        self._head += len(name) + len(value)
        if self._head > MAX_HEAD:
            raise HeadTooLarge
        if not self._in_message:
            super().on_header(name, value.strip(WHITESPACE))

    def on_headers_complete(self) -> None:
        """End the head and stop its timer."""
        self._in_head = False
        self._in_message = True
        self._bytes_without_progress = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        self._bytes_without_progress = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request, and mark its body as complete."""
        self.scope["state"][BODY_COMPLETE] = True
        self._in_message = False
        self._bytes_without_progress = 0
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the time limit for the rest of an unread body."""
        super().on_response_complete()
        if self._in_message:
            self._start_timer()

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        self._timer = None
        if self._is_responding():
            self._start_timer()
        elif not self.transport.is_closing():
            self.transport.close()

    def _is_responding(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete
