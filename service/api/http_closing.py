"""HTTP/1.1 on one connection: how it ends, and whether it is kept after a response."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.api import lingering_close
from service.api.connections import BoundedFlow, BoundedServerState, Connections, unacknowledged_bytes
from service.api.lingering_close import LingeringTransport
from service.api.raw_responses import BAD_REQUEST

HALF_CLOSE_SECONDS = 5.0
"""Time limit for the responses to a peer that has ended its half of the connection: it may be gone, in seconds."""

SMALL_REST = 64 * 1024
"""Size up to which the rest of a body is read after an early response, so that the connection is kept, in bytes."""


class ClosingProtocol(HttpToolsProtocol):
    """Ends connections so that the peer can read the last response, also while it still sends.

    `_in_message` is set between a head and the end of its body, `_body_bytes` counts the bytes of that body. A response
    before its end closes the connection, unless `_may_keep_alive` is set and the rest is small. `_refused` is set once
    the connection ends behind the responses to earlier requests, because of what follows them.
    """

    server_state: BoundedServerState
    flow: BoundedFlow
    transport: LingeringTransport
    _registry: Connections
    _in_message = False
    _body_bytes = 0
    _may_keep_alive = False
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Put the transport behind one that lingers."""
        super().connection_made(transport)
        self.flow = BoundedFlow(transport)
        self.transport = LingeringTransport(transport, to_discard=self._to_discard, on_linger=self._begin_linger)
        self._registry = self.server_state.registry

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer of the transport."""
        self.transport.lost()
        super().connection_lost(exc)

    def unsent_bytes(self) -> int:
        """Return the bytes of responses that the peer has not taken."""
        return unacknowledged_bytes(self.transport)

    def abort(self) -> None:
        """Close the connection now, with everything that is unsent."""
        self.transport.abort()

    def on_body(self, body: bytes) -> None:
        """Count a part of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def send_400_response(self, _: str) -> None:
        """Refuse what cannot be parsed."""
        self._refuse(BAD_REQUEST)

    def _refuse(self, response: bytes) -> None:
        """End the connection with `response`, or with those to earlier requests, which are complete."""
        if self._is_responding() and not self._in_message:
            self._refused = True
            self.cycle.keep_alive = False
            self.flow.hold(True)
        else:
            self.transport.write(response)
            self.transport.close()

    def eof_received(self) -> bool:  # type: ignore[override] # as in asyncio
        """Keep the other half of the connection while there are responses to send (RFC 9112, 9.6)."""
        if self.transport.is_closing() or not self._is_responding() or self._is_receiving():
            return False
        self.cycle.keep_alive = False
        self.timeout_keep_alive_task = self.loop.call_later(HALF_CLOSE_SECONDS, self.transport.end)
        return True

    def _begin_body(self) -> None:
        """Close the connection if the response comes before the end of the body, which begins now."""
        self._body_bytes = 0
        self._may_keep_alive = self.cycle.keep_alive
        self.cycle.keep_alive = False

    def _keep_alive_again(self) -> None:
        """Keep the connection after the response, unless its head says otherwise."""
        if self._may_keep_alive and not self.cycle.response_started:
            self.cycle.keep_alive = True

    def _is_rest_small(self) -> bool:
        """Return whether the peer will surely send a body that is not much longer than what has arrived."""
        if self.cycle.waiting_for_100_continue:  # a peer that gets an early response may not send the body
            return False
        for name, value in self.headers:
            if name == b"content-length" and value.isdigit():
                return int(value) - self._body_bytes <= SMALL_REST
        return False

    def shutdown(self) -> None:
        """Close the connection after the response in progress, and soon if its peer still sends."""
        self._may_keep_alive = False
        super().shutdown()
        self.transport.begin_shutdown()

    def _to_discard(self) -> int:
        """Return how many bytes that the peer may be sending at the end of the connection are discarded."""
        if self._in_message or self in self._registry.refused_open:
            return lingering_close.LINGER_BYTES
        return lingering_close.LINGER_HEAD_BYTES if self._is_receiving() or self.pipeline else 0

    def _begin_linger(self) -> None:
        """Read on; requests without a response are ended as if the peer had closed."""
        cycles: list[RequestResponseCycle | None] = [self.cycle, *(queued for queued, _ in self.pipeline)]
        for cycle in filter(None, cycles):  # None before the first request
            cycle.body.clear()
            cycle.disconnected = not cycle.response_complete
            cycle.message_event.set()
        self.pipeline.clear()
        self.flow.hold(False)
        self.flow.resume_reading()

    def _is_receiving(self) -> bool:
        """Return whether a part of a request has arrived, and not all of it was parsed."""
        raise NotImplementedError

    def _is_responding(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete
