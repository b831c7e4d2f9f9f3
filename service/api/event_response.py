"""The response that streams events to one listener; imported with the first stream, since it takes a while."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractContextManager

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse
from starlette.types import Receive, Scope, Send

from service.api.ports import Stopped
from service.api.stream_sessions import Permitted
from service.domain.logged_event import LoggedEvent
from service.tasks.event_feed import Listener

HEARTBEAT_SECONDS = 15.0
"""Seconds between two heartbeats, by which routers and peers see that a quiet stream is alive."""

RETRY_MS = 2000
"""Milliseconds after which a browser connects again."""

END_SECONDS = 0.5
"""Seconds that a stream has to send its end when the process stops."""

BEGIN = f"retry: {RETRY_MS}\n: the stream begins\n".encode()
HEARTBEAT = b": heartbeat\n"
"""A comment without an empty line: several readers take that for an event without data."""


class EventStream(EventSourceResponse):
    """Sends the events of `listener` until the client disconnects, the process stops, or for `seconds`.

    With 0 seconds it sends those that are stored. `held` is entered while it is sent. The stream ends when it is no
    longer `permitted`, which is asked before events and with the heartbeats.
    """

    def __init__(
        self,
        listener: Listener,
        *,
        held: AbstractContextManager[None],
        stopped: Stopped,
        seconds: int | None,
        headers: Mapping[str, str],
        permitted: Permitted | None = None,
    ) -> None:
        self._held = held
        self._listener = listener
        self._stopped = stopped
        self._seconds = seconds
        self._permitted = permitted
        super().__init__(
            _chunks(listener, permitted, follow=seconds != 0),
            ping=HEARTBEAT_SECONDS,
            ping_message_factory=_Heartbeat,
            data_sender_callable=self._close_unpermitted if permitted else None,
            headers=headers,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        with self._held:
            await super().__call__(scope, receive, send)

    async def _listen_for_exit_signal_with_grace(self) -> None:
        """Close the listener when the process stops or the time is up; its last event is sent as a whole."""
        try:
            async with asyncio.timeout(self._seconds or None):
                await self._stopped()
        except TimeoutError:
            pass
        self._listener.close()
        await asyncio.sleep(END_SECONDS)

    async def _close_unpermitted(self) -> None:
        """Close the listener once the stream is no longer permitted."""
        while not self._listener.closed:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if self._permitted and not await self._permitted():
                self._listener.close()


class _Heartbeat(ServerSentEvent):
    def encode(self) -> bytes:
        """Return the line of a heartbeat."""
        return HEARTBEAT


async def _chunks(listener: Listener, permitted: Permitted | None, *, follow: bool) -> AsyncGenerator[bytes]:
    yield BEGIN
    events = listener.events(follow=follow)
    try:
        async for event in events:
            if permitted and not await permitted():
                return
            yield event_bytes(event)
    finally:
        await events.aclose()


def event_bytes(event: LoggedEvent) -> bytes:
    """Return an event as it is streamed; its JSON has no line break."""
    return f"id: {event.seq}\nevent: {event.event.type.value}\ndata: {event.body}\n\n".encode("ascii")
