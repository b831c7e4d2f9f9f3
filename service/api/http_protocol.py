"""HTTP/1.1 on one connection: uvicorn's protocol with limits on heads, queued requests and unread responses."""

import asyncio

from service.api.http_closing import ClosingProtocol
from service.api.ignored_upgrade import UpgradeIgnoringParser
from service.api.raw_responses import HEAD_TOO_LARGE, TOO_MANY_CONNECTIONS
from service.concurrency.late_timeout import LATE

MAX_HEAD = 64 * 1024
"""Maximum size of request line, headers and trailers in bytes; callback tokens and cookies of browsers fit easily."""

HEAD_SECONDS = 20.0
"""Time limit for a head, and for the rest of a body that is unread when the response is complete, in seconds."""

MAX_HEADERS = 200
"""Maximum number of headers of a request, each of which takes far more memory than its bytes."""

MAX_QUEUED = 8
"""Maximum number of requests that wait for the response to an earlier one; further ones stay unread."""

MAX_STRAY = 4
"""Maximum size of line breaks that are ignored behind a request: some clients end a body with one, in bytes."""

WRITE_BUFFER = 16 * 1024
"""Unsent bytes of responses from which on no further response is begun."""

LINE_END = b"\n"
END_OF_HEAD = b"\r\n\r\n"
MIN_PIECE = 14
MIN_BODY_PIECE = 512
"""Minimum bytes that are parsed at once between requests, and inside a body; the shortest request has 18."""

WHITESPACE = b" \t"
"""Optional whitespace around a header value. The parser removes it before the value and leaves it after the value."""


class HeadTooLarge(Exception):
    """A request head is larger than MAX_HEAD, or has more than MAX_HEADERS."""


class BoundedProtocol(ClosingProtocol):
    """Closes connections whose request heads are too large or too slow, and parses no more requests than it can queue.

    `_bytes_without_progress` counts the bytes since the last complete head or part of a body. `_head` counts the bytes
    of the current head while `_in_head` is set. `_timer` is None while a request is processed, while the connection is
    idle between requests, and when a request arrived in one piece. `_unparsed` are received bytes behind the last
    request that is queued, from `_offset`; reading is paused while there are any. `_queued` counts the bytes of the
    heads that were queued since the queue was last empty.
    """

    _bytes_without_progress = 0
    _head = 0
    _in_head = False
    _timer: asyncio.TimerHandle | None = None
    _unparsed = b""
    _offset = 0
    _queued = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Start the time limit for the first head; close the connection when there are too many."""
        super().connection_made(transport)
        self.parser = UpgradeIgnoringParser(self)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        if self._registry.close_one_if_full(self, len(self.connections)):
            self._registry.become_idle(self)
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            self.transport.write(TOO_MANY_CONNECTIONS)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers and release what is held. uvicorn stops its own timer only without an error."""
        self._stop_timer()
        self._unset_keepalive_if_required()
        self._registry.remove(self)
        self._unparsed = b""
        self.pipeline.clear()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Close the idle connection, unless the process was stopped: a request may be on its way that woke it up."""
        timer = self.timeout_keep_alive_task
        if timer and self.loop.time() - timer.when() > LATE:
            self.timeout_keep_alive_task = self.loop.call_later(LATE, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def data_received(self, data: bytes) -> None:
        """Parse bytes, as far as their requests can be queued; discard those behind the last response."""
        if self.transport.lingers:
            self.transport.discard(len(data))
            return
        if self._refused:
            return
        if len(data) <= MAX_STRAY and not (data.strip(b"\r\n") or self._is_receiving()):
            return
        few = MAX_QUEUED if len(data) <= MAX_HEAD else 1
        # a part of a large body often has no line end, which is found out far faster than the ends of heads are counted
        if self._unparsed or (LINE_END in data and data.count(END_OF_HEAD) > few):
            self._unparsed += data
            self._parse_queued()
        else:  # the usual case
            self._parse(data)
            if self._takes_no_more():
                self.flow.hold(True)

    def _parse_queued(self) -> None:
        """Parse received bytes until the queue of requests is full; read again when none is left."""
        data = self._unparsed
        while self._offset < len(data) and not (self._is_queue_full() or self._is_ending()):
            begin = self._offset
            end = data.find(END_OF_HEAD, begin + (MIN_BODY_PIECE if self._in_message else MIN_PIECE))
            self._offset = len(data) if end < 0 else end + len(END_OF_HEAD)
            self._parse(data[begin : self._offset])
        if self._offset >= len(data) or self._is_ending():
            self._unparsed, self._offset = b"", 0
        if self._registry.hold(self, len(self._unparsed)):
            self.flow.hold(bool(self._unparsed) or self._takes_no_more())
        else:
            self.abort()

    def _is_ending(self) -> bool:
        """Return whether nothing is parsed any more: behind what cannot be parsed, each part would fail, too."""
        return self._refused or self.transport.is_closing()

    def _takes_no_more(self) -> bool:
        return self._refused or self._is_queue_full()

    def _is_queue_full(self) -> bool:
        if not self.pipeline:
            self._queued = 0
        return len(self.pipeline) >= MAX_QUEUED or self._queued > MAX_HEAD

    def _parse(self, data: bytes) -> None:
        """Parse bytes, and close the connection when too many of them completed nothing."""
        self._bytes_without_progress += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._bytes_without_progress > MAX_HEAD:
            self._refuse(HEAD_TOO_LARGE)
        elif self._in_head or (self._bytes_without_progress and not self._in_message):
            self._start_timer()
        elif self._in_message and self._is_rest_small():
            self._keep_alive_again()

    def pause_writing(self) -> None:
        """Stop reading: the peer does not read its responses."""
        self._registry.stall(self)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Read again."""
        self._registry.proceed(self)
        super().resume_writing()

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
        if self._head > MAX_HEAD or len(self.headers) >= MAX_HEADERS:
            raise HeadTooLarge
        if not self._in_message:
            super().on_header(name, value.strip(WHITESPACE))

    def on_headers_complete(self) -> None:
        """End the head and stop its timer; the connection is kept once the body is complete."""
        if self.parser.should_upgrade():
            return  # it is parsed again
        self._in_head = False
        self._in_message = True
        self._bytes_without_progress = 0
        self._stop_timer()
        self._registry.begin_request(self)
        super().on_headers_complete()
        self._begin_body()
        if self.pipeline:
            self._queued += self._head

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        self._bytes_without_progress = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        if self.parser.should_upgrade():
            return
        self._in_message = False
        self._bytes_without_progress = 0
        self._stop_timer()
        self._keep_alive_again()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Parse the next requests; start the time limit for the rest of an unread body."""
        super().on_response_complete()
        if self.flow.held:
            self._parse_queued()
        if self._in_message and not self.transport.is_closing():
            self._start_timer()
        if not self._is_responding():
            self._registry.become_idle(self)

    def _begin_linger(self) -> None:
        """Release what is held; the connection is idle."""
        self._stop_timer()
        self._unparsed = b""
        self._registry.hold(self, 0)
        super()._begin_linger()
        self._registry.become_idle(self)

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
        else:
            self.transport.end()

    def _is_receiving(self) -> bool:
        return bool(self._in_message or self._bytes_without_progress or self._unparsed)
