"""What a handler's author touches: `Handlers` to register with, `Event` and `Tools` to work with."""

import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import httpx

from service.domain.artifact import Artifact
from service.domain.errors import BadHandler
from service.domain.task import EventType, Json
from service.domain.task_view import TaskView


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a task. `id` is stable over attempts and replays; `task` is as it was at that time.

    `payload` is the caller's own string, as it was submitted, and `metadata` the caller's own object. `artifact` is
    what was kept, when the event says that something was. `client` is the name of the client whose task it is.
    """

    id: str
    type: str
    at: datetime
    task: TaskView
    payload: str | None = field(default=None, repr=False)
    metadata: Json = field(default_factory=dict)
    artifact: Artifact | None = None
    client: str = ""


class Results(Protocol):
    """What a handler may ask and say about a task's results."""

    async def refetch(self, task_id: str) -> list[Json]:
        """Return the task's output with fresh addresses, asked of the upstream; raises UpstreamError."""

    async def keep(self, task_id: str, artifact: Artifact) -> None:
        """Record that a result is kept; `artifact.stored` follows, once for each artifact."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a handler works with.

    `http` dials public addresses only (and what EGRESS_ALLOW names) and follows no redirects. `target` is the `notify`
    entry that asked for this delivery, empty when the operator's settings did. `message_id` is the same over the
    attempts of a delivery and new for a replay. `attempt` counts from 1. `settings` are the operator's `BOOMERANG_*`
    settings without the prefix, given or default.
    """

    http: httpx.AsyncClient
    log: logging.Logger
    results: Results
    now: Callable[[], datetime]
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    target: Json = field(default_factory=dict, repr=False)
    message_id: str = ""
    attempt: int = 1


Handle = Callable[[Event, Tools], Awaitable[None]]

Check = Callable[[Mapping[str, str]], str | None]
"""Looks at the operator's settings before the start: returns what is wrong and how to mend it, None when nothing is."""


@dataclass(frozen=True, kw_only=True)
class Handler:
    """A registered handler: which events it wants, how often it is tried, for how many seconds, how many at once.

    `needs` names the settings without which it is not loaded by default. A `by_request` handler receives only what a
    task's `notify` asks for, and every event once the setting named by `always_with` is given. `check` refuses settings
    that cannot work. `aliases` are former names, the oldest last, that stored deliveries and tasks may carry. `origin`
    says where it was found.
    """

    name: str
    events: frozenset[str]
    handle: Handle = field(repr=False)
    attempts: int | None = None
    timeout: float = 60.0
    concurrency: int = 16
    needs: tuple[str, ...] = ()
    by_request: bool = False
    always_with: str | None = None
    check: Check | None = field(default=None, repr=False)
    aliases: tuple[str, ...] = ()
    origin: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a stored delivery for this handler may carry."""
        return (self.name, *self.aliases)


class Handlers:
    """The handlers of one module. A registration that cannot work is refused at import, with the mend."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def on(
        self,
        *events: str,
        name: str,
        attempts: int | None = None,
        timeout: float = 60.0,
        concurrency: int = 16,
        needs: tuple[str, ...] = (),
        by_request: bool = False,
        always_with: str | None = None,
        check: Check | None = None,
        aliases: tuple[str, ...] = (),
    ) -> Callable[[Handle], Handle]:
        """Register the decorated coroutine function for `events` (all of them when none is named).

        `timeout` is in seconds; `attempts` caps the schedule (its whole length by default). The rest is as in
        `Handler`. Raises BadHandler.
        """

        def register(handle: Handle) -> Handle:
            handler = Handler(
                name=name,
                events=frozenset(events) or frozenset(EventType),
                handle=handle,
                attempts=attempts,
                timeout=timeout,
                concurrency=concurrency,
                needs=needs,
                by_request=by_request,
                always_with=always_with,
                check=check,
                aliases=aliases,
                origin=getattr(handle, "__module__", ""),
            )
            self._add(handler)
            return handle

        return register

    def _add(self, handler: Handler) -> None:
        _refuse_wrong_names(handler)
        _refuse_unknown_events(handler)
        _refuse_wrong_numbers(handler)
        _refuse_wrong_shape(handler)
        taken = {name for one in self for name in one.names}
        for name in handler.names:
            if name in taken:
                raise BadHandler(f"handler name {name!r} is taken twice in one module; give one of them another name")
        self._handlers[handler.name] = handler


def _refuse_wrong_names(handler: Handler) -> None:
    for name in handler.names:
        if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
            raise BadHandler(f"handler name {name!r} must be ASCII letters, digits, '-' and '_'")
    if len(set(handler.names)) < len(handler.names):
        raise BadHandler(f"handler {handler.name!r} names an alias twice or itself; aliases are its former names")


def _refuse_unknown_events(handler: Handler) -> None:
    unknown = sorted(map(str, handler.events - frozenset(EventType)))
    if unknown:
        raise BadHandler(
            f"handler {handler.name!r} asks for unknown events {', '.join(unknown)}; known are {', '.join(EventType)}"
        )


def _refuse_wrong_numbers(handler: Handler) -> None:
    fine = (handler.attempts is None or handler.attempts >= 1) and handler.concurrency >= 1
    if not (fine and 0 < handler.timeout < math.inf):
        raise BadHandler(f"handler {handler.name!r} needs attempts >= 1, timeout > 0 and concurrency >= 1")


def _refuse_wrong_shape(handler: Handler) -> None:
    handle = handler.handle
    if not inspect.iscoroutinefunction(handle):
        what = "an async generator" if inspect.isasyncgenfunction(handle) else "a sync function"
        called = getattr(handle, "__name__", "handle")
        raise BadHandler(f"handler {handler.name!r} is {what}; write `async def {called}(event, tools)` without yield")
    try:
        inspect.signature(handle).bind(object(), object())
    except TypeError as error:
        raise BadHandler(f"handler {handler.name!r} must take exactly (event, tools): {error}") from error
