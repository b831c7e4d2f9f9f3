"""What a handler's author touches: `Handlers` to register with, `Event` and `Tools` to work with."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import httpx

from service.core.task import EventType, Json
from service.core.view import TaskView
from service.errors import BadHandler


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a task. `id` is stable over attempts and replays; `task` is as it was at that time.

    `payload` is the caller's own string, as it was submitted, and `metadata` the caller's own object.
    """

    id: str
    type: str
    at: datetime
    task: TaskView
    payload: str | None = field(default=None, repr=False)
    metadata: Json = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A result that we keep: where it was, where it is now, its length in bytes and its SHA-256 in hexadecimal."""

    url: str
    archived_url: str
    media_type: str
    bytes: int
    sha256: str


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


@dataclass(frozen=True, kw_only=True)
class Handler:
    """A registered handler: which events it wants, how often it is tried, for how many seconds, how many at once.

    `needs` names the settings without which it is not loaded by default; `by_request` handlers receive only what a
    task's `notify` (or their own setting) asks for; `aliases` are former names that stored deliveries may carry.
    """

    name: str
    events: frozenset[str]
    handle: Handle = field(repr=False)
    attempts: int | None = None
    timeout: float = 60.0
    concurrency: int = 16
    needs: tuple[str, ...] = ()
    by_request: bool = False
    aliases: tuple[str, ...] = ()
    origin: str = ""


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
        aliases: tuple[str, ...] = (),
    ) -> Callable[[Handle], Handle]:
        """Register the decorated coroutine function for `events` (all of them when none is named).

        `timeout` is in seconds; `attempts` caps the schedule (its whole length by default). Raises BadHandler.
        """
        wanted = frozenset(events) or frozenset(EventType)

        def register(handle: Handle) -> Handle:
            _refuse_unknown_events(name, wanted)
            _refuse_wrong_numbers(name, attempts, timeout, concurrency)
            _refuse_wrong_shape(name, handle)
            if name in self._handlers:
                raise BadHandler(f"handler name {name!r} is taken twice in one module; give one of them another name")
            self._handlers[name] = Handler(
                name=name,
                events=wanted,
                handle=handle,
                attempts=attempts,
                timeout=timeout,
                concurrency=concurrency,
                needs=needs,
                by_request=by_request,
                aliases=aliases,
                origin=handle.__module__,
            )
            return handle

        return register


def _refuse_unknown_events(name: str, wanted: frozenset[str]) -> None:
    unknown = sorted(wanted - frozenset(EventType))
    if unknown:
        raise BadHandler(
            f"handler {name!r} asks for unknown events {', '.join(unknown)}; known are {', '.join(EventType)}"
        )


def _refuse_wrong_numbers(name: str, attempts: int | None, timeout: float, concurrency: int) -> None:
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise BadHandler(f"handler name {name!r} must be letters, digits, '-' and '_'")
    if (attempts is not None and attempts < 1) or timeout <= 0 or concurrency < 1:
        raise BadHandler(f"handler {name!r} needs attempts >= 1, timeout > 0 and concurrency >= 1")


def _refuse_wrong_shape(name: str, handle: Any) -> None:
    if not inspect.iscoroutinefunction(handle):
        raise BadHandler(f"handler {name!r} is a sync function; write `async def {handle.__name__}(event, tools)`")
    try:
        inspect.signature(handle).bind(object(), object())
    except TypeError as error:
        raise BadHandler(f"handler {name!r} must take exactly (event, tools): {error}") from error
