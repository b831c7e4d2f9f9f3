"""The public API of handlers: `Handlers` to register with, `Event` and `Tools` to work with."""

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

DEFAULT_TIMEOUT = 60.0
"""Seconds that one attempt of a handler may take."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a task. `id` is stable over attempts and replays; `task` is its state at that time.

    `payload` is the caller's own string, as it was submitted, and `metadata` the caller's own object. `artifact` is the
    stored file of an `artifact.stored` event. `client` is the name of the client whose task it is.
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
    """What a handler can do with the results of a task."""

    async def refetch(self, task_id: str) -> list[Json]:
        """Fetch the task from the provider and return its output with fresh URLs; raises UpstreamError."""

    async def keep(self, task_id: str, artifact: Artifact) -> None:
        """Record that a result is stored; an `artifact.stored` event follows, once for each artifact."""


def _no_answer(status: int, body: bytes) -> None:
    """Keep nothing: outside of a delivery there is no attempt."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The tools of a handler.

    `http` connects to public addresses only, and to those in EGRESS_ALLOW, with a `target` in NOTIFY_ALLOW; it follows
    no redirects. `target` is the `notify` entry that requested this delivery, empty when the operator's settings did.
    `message_id` is the same for all attempts of a delivery and new for a replay. `attempt` counts from 1. `settings`
    are the operator's `BOOMERANG_*` settings without the prefix, including defaults. `keep_answer` takes the status and
    the body that a receiver answered: the first KiB is kept with the attempt, for the history of the task.
    """

    http: httpx.AsyncClient
    log: logging.Logger
    results: Results
    now: Callable[[], datetime]
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    target: Json = field(default_factory=dict, repr=False)
    message_id: str = ""
    attempt: int = 1
    keep_answer: Callable[[int, bytes], None] = field(default=_no_answer, repr=False)


Handle = Callable[[Event, Tools], Awaitable[None]]

Check = Callable[[Mapping[str, str]], str | None]
"""Checks the operator's settings at startup: returns the error and its fix, or None."""


@dataclass(frozen=True, kw_only=True)
class Handler:
    """A registered handler: its events, its maximum attempts, its timeout in seconds, its deliveries at once.

    `needs` names the settings without which it is not loaded by default. A `by_request` handler receives only what a
    task's `notify` requests, and every event if the setting named by `always_with` is set. `check` rejects settings
    that cannot work. `aliases` are former names, the oldest last, that stored deliveries and tasks may contain.
    `origin` is the file or package that defines it.
    """

    name: str
    events: frozenset[str]
    handle: Handle = field(repr=False)
    attempts: int | None = None
    timeout: float = DEFAULT_TIMEOUT
    concurrency: int = 16
    needs: tuple[str, ...] = ()
    by_request: bool = False
    always_with: str | None = None
    check: Check | None = field(default=None, repr=False)
    aliases: tuple[str, ...] = ()
    origin: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Return every name that a stored delivery for this handler may have."""
        return (self.name, *self.aliases)


class Handlers:
    """The handlers of one module. An invalid registration raises BadHandler at import, with the fix."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def on(
        self,
        *events: str,
        name: str,
        attempts: int | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        concurrency: int = 16,
        needs: tuple[str, ...] = (),
        by_request: bool = False,
        always_with: str | None = None,
        check: Check | None = None,
        aliases: tuple[str, ...] = (),
    ) -> Callable[[Handle], Handle]:
        """Register the decorated coroutine function for `events`, by default for all.

        `timeout` is in seconds; `attempts` limits the schedule, by default to its whole length. `Handler` describes the
        other parameters. Raises BadHandler.
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
        _check_declaration(handler)
        _check_signature(handler)
        taken = {name for other in self for name in other.names}
        for name in handler.names:
            if name in taken:
                raise BadHandler(f"handler name {name!r} is taken twice in one module; give one of them another name")
        self._handlers[handler.name] = handler


def _check_declaration(handler: Handler) -> None:
    """Raise BadHandler for wrong names, unknown events and numbers out of range."""
    for name in handler.names:
        if not (name.isascii() and name.replace("-", "").replace("_", "").isalnum()):
            raise BadHandler(f"handler name {name!r} must be ASCII letters, digits, '-' and '_'")
    if len(set(handler.names)) < len(handler.names):
        raise BadHandler(f"handler {handler.name!r} names an alias twice or itself; aliases are its former names")
    unknown = sorted(map(str, handler.events - frozenset(EventType)))
    if unknown:
        raise BadHandler(
            f"handler {handler.name!r} asks for unknown events {', '.join(unknown)}; known are {', '.join(EventType)}"
        )
    valid = (handler.attempts is None or handler.attempts >= 1) and handler.concurrency >= 1
    if not (valid and 0 < handler.timeout < math.inf):
        raise BadHandler(f"handler {handler.name!r} needs attempts >= 1, timeout > 0 and concurrency >= 1")


def _check_signature(handler: Handler) -> None:
    """Raise BadHandler unless `await handle(event, tools)` works."""
    handle = handler.handle
    if not inspect.iscoroutinefunction(handle):
        kind = "an async generator" if inspect.isasyncgenfunction(handle) else "a sync function"
        name = getattr(handle, "__name__", "handle")
        raise BadHandler(f"handler {handler.name!r} is {kind}; write `async def {name}(event, tools)` without yield")
    try:
        inspect.signature(handle).bind(object(), object())
    except TypeError as error:
        raise BadHandler(f"handler {handler.name!r} must take exactly (event, tools): {error}") from error
