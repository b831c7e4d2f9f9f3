"""The endpoint `/v1/events`: events as they happen, as server-sent events that a client can resume."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.authentication import Caller, Pages, caller_of
from service.api.connections import MAX_CONNECTIONS
from service.api.endpoints import route
from service.api.long_poll import Watching
from service.api.ports import Stopped
from service.api.problems import TOO_MANY_OF_CLIENT, ProblemError
from service.api.query_params import MAX_INTEGER, MAX_NUMBER, QueryParams, number_of
from service.api.stream_sessions import permission
from service.domain.errors import Fault, InvalidParams, NotFound
from service.domain.logged_event import EventFilter
from service.domain.ports.tasks import TaskQueries
from service.domain.task import EventType, TaskId
from service.tasks.event_feed import EventFeed

LAST_EVENT_ID = "Last-Event-ID"
MAX_TASKS = 20

MAX_STREAMS = MAX_CONNECTIONS // 4
"""Streams of all clients at once: each keeps a connection."""


@dataclass(kw_only=True, slots=True)
class EventStreamApi:
    """The endpoint `/v1/events`.

    There are at most `max_streams`, and a client may begin one only while it has fewer than are free (as in
    `domain/fair_share.py`). A stream of certain tasks watches them: see `watching`. One of a browser ends with its
    session of `pages`.
    """

    feed: EventFeed
    queries: TaskQueries
    watching: Watching
    stopped: Stopped
    pages: Pages | None = None
    max_streams: int = MAX_STREAMS
    _streams: Counter[str] = field(default_factory=Counter)

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route("/v1/events", get=self.stream)]

    async def stream(self, request: Request) -> Response:
        """Stream the caller's events after the position of the request, by default those from now on."""
        query = QueryParams(request, "task", "type", "after", "wait", repeatable=("task", "type"))
        tasks = [TaskId(each) for each in query.ids("task", maximum=MAX_TASKS)]
        types = [EventType(each) for each in query.choices("type", [each.value for each in EventType])]
        seconds = query.integer("wait", -1, minimum=0, maximum=MAX_INTEGER)
        after = query.number("after")
        query.reject_errors()
        after = _last_event_id(request, after)
        caller = caller_of(request)
        await self._require_visible(tasks, caller)
        if self._streams[caller.name] >= self.max_streams - self._streams.total():
            raise ProblemError(TOO_MANY_OF_CLIENT)
        last = await self.feed.last()
        begin = last if after is None else min(after, last)  # a restored database may be behind its clients
        wanted = EventFilter(client=caller.scope, tasks=frozenset(tasks), types=frozenset(types))
        from service.api.event_response import EventStream  # noqa: PLC0415 - few processes serve a stream

        return EventStream(
            self.feed.listener(wanted, after=begin),
            held=self._held(caller.name, tasks),
            stopped=self.stopped,
            seconds=None if seconds < 0 else seconds,
            permitted=permission(self.pages, request, caller),
            headers={LAST_EVENT_ID: str(begin)},
        )

    async def _require_visible(self, tasks: list[TaskId], caller: Caller) -> None:
        """Raise NotFound unless all tasks exist and the caller may read them."""
        for task_id in tasks:
            task = await self.queries.task(task_id)
            if task is None or not caller.sees(task.client):
                raise NotFound(f"there is no task {task_id}")

    @contextmanager
    def _held(self, client: str, tasks: list[TaskId]) -> Iterator[None]:
        """Count one more stream of `client` inside the block, and watch its tasks."""
        self._streams[client] += 1
        try:
            with ExitStack() as stack:
                for task_id in tasks:
                    stack.enter_context(self.watching(task_id))
                yield
        finally:
            self._streams[client] -= 1
            if not self._streams[client]:
                del self._streams[client]


def _last_event_id(request: Request, default: int | None) -> int | None:
    """Return the number in the header Last-Event-ID, which a browser sends when it connects again, or `default`."""
    values = [text for text in request.headers.getlist(LAST_EVENT_ID) if text]
    if not values:
        return default
    number = number_of(values[0]) if len(values) == 1 else None
    if number is None:
        msg = f"must be the `id` of an event, a whole number from 0 to {MAX_NUMBER}, once"
        raise InvalidParams([Fault(loc=("header", LAST_EVENT_ID), msg=msg)])
    return number
