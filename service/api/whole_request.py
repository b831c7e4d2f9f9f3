"""A request that the server has received completely: read and answered without ASGI's messages.

Most callbacks arrive in one piece and get a response without a body. Messages, and the checks of a server of any
application, take most of the time of such a request.
"""

from dataclasses import dataclass

from starlette.types import Receive
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

NO_CONTENT_HEAD = b"HTTP/1.1 204 No Content\r\n"
CLOSE = b"connection: close\r\n"


@dataclass(frozen=True, slots=True)
class WholeRequest:
    """A request of which everything has been received, and the response to it."""

    cycle: RequestResponseCycle

    def small_body(self, max_bytes: int) -> bytes | None:
        """Return the body if it has at most `max_bytes`; None if not, or where the peer does not wait any more."""
        cycle = self.cycle
        if cycle.disconnected or cycle.waiting_for_100_continue or len(cycle.body) > max_bytes:
            return None
        return bytes(cycle.body)

    async def send_no_content(self, request_id: str) -> None:
        """Send a 204, and close the connection or continue with its next request, as uvicorn does."""
        cycle = self.cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        cycle.body.clear()
        if cycle.disconnected:
            return
        head = [NO_CONTENT_HEAD]
        for name, value in cycle.default_headers:
            head += (name, b": ", value, b"\r\n")
        head += (b"x-request-id: ", request_id.encode("ascii"), b"\r\n")
        if not cycle.keep_alive:
            head.append(CLOSE)
        head.append(b"\r\n")
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(b"".join(head))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


def whole_request(receive: Receive) -> WholeRequest | None:
    """Return the request that `receive` belongs to if all of it has been received, and None otherwise.

    uvicorn calls an application with methods of the request's cycle.
    """
    cycle = getattr(receive, "__self__", None)
    return WholeRequest(cycle) if isinstance(cycle, RequestResponseCycle) and not cycle.more_body else None
