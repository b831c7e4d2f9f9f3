"""What a handler works with: the event, and its tools."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, cast

import httpx
from typing_extensions import TypeVar

from service.deliveries.handler_content import ContentSource, ObjectArchive, no_content
from service.deliveries.handler_state import HandlerState
from service.domain.artifact import Artifact
from service.domain.logged_event import event_body, payload_fields
from service.domain.task import Json
from service.domain.task_view import TaskView


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

    def to_json(self) -> Json:
        """Return the event as webhooks have it; a payload over 64 KiB is left out, and its size is there instead."""
        size = len((self.payload or "").encode(errors="surrogatepass"))
        return event_body(
            self.id,
            self.type,
            self.at,
            task=self.task.to_json(),
            payload=payload_fields(self.payload, size, self.task.id),
            metadata=self.metadata,
            client=self.client,
        )


class Results(Protocol):
    """What a handler can do with the results of a task."""

    async def refetch(self, task_id: str) -> list[Json]:
        """Fetch the task from the provider and return its output with fresh URLs; raises UpstreamError."""

    async def keep(self, task_id: str, artifact: Artifact) -> None:
        """Record that a result is stored; an `artifact.stored` event follows, once for each artifact."""


class Tasks(Protocol):
    """The tasks of one handler."""

    async def submit(
        self,
        *,
        model: str,
        params: Mapping[str, Any],
        metadata: Mapping[str, Any] | None,
        notify: Sequence[Mapping[str, Any]],
        idempotency_key: str | None,
        client: str | None,
    ) -> TaskView:
        """Accept a task and return it once it is stored; raises InvalidTask, QueueIsFull, StoreUnavailable."""

    async def task(self, task_id: str, *, client: str | None) -> TaskView | None:
        """Return a task of this handler, None for an unknown one."""

    async def cancel(self, task_id: str, *, client: str | None) -> TaskView:
        """Cancel a task of this handler; raises NotFound, Conflict, UpstreamError."""


class Jobs(Protocol):
    """The jobs of one handler."""

    async def schedule(
        self, name: str, key: str | None, data: Any, *, after: timedelta | float, within: timedelta | float | None
    ) -> datetime:
        """Store a job, or renew the waiting one with its key; return when it is due."""

    async def unschedule(self, name: str, key: str) -> bool:
        """Delete a waiting job; return whether there was one."""


def _no_answer(status: int, body: bytes) -> None:
    """Keep nothing: outside of a delivery there is no attempt."""


T = TypeVar("T")


class Resources(Protocol):
    """The resources that one handler shares in its process."""

    async def get(self, name: str, open_: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the resource `name`; open it at the first call."""


Config = TypeVar("Config", default=Any)
Options = TypeVar("Options", default=Any)


@dataclass(frozen=True, kw_only=True)
class Tools(Generic[Config, Options]):
    """The tools of a handler, in its event function, its routes and its jobs.

    `http` connects to public addresses only, and to those in EGRESS_ALLOW, with a `target` in NOTIFY_ALLOW; it follows
    no redirects. `operator_http` is the one without a target: for addresses that only the operator's settings give.
    `config` are the settings that the handler declares, typed. `settings` are the operator's `BOOMERANG_*` settings
    without the prefix, including defaults. `state` are the handler's own values by key. `content(task, output)` opens
    the file of a result. `archive` is the bucket that ARCHIVE_URL names, None where it names a directory or nothing.

    In a delivery `target` is the `notify` entry that requested it, empty when the operator's settings did, and
    `options` the same entry as the model that the handler declares, None without an entry. `message_id` is the same for
    all attempts of a delivery and new for a replay. `attempt` counts from 1. `keep_answer` takes the status and the
    body that a receiver answered: the first KiB is kept with the attempt, for the history of the task.
    """

    http: httpx.AsyncClient
    log: logging.Logger
    results: Results
    now: Callable[[], datetime]
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    target: Json = field(default_factory=dict, repr=False)
    message_id: str = ""
    attempt: int = 1
    config: Config = field(default=cast("Any", None), repr=False)
    options: Options = field(default=cast("Any", None), repr=False)
    state: HandlerState = field(default=cast("Any", None), repr=False)
    operator_http: httpx.AsyncClient = field(default=cast("Any", None), repr=False)
    tasks: Tasks = field(default=cast("Any", None), repr=False)
    jobs: Jobs = field(default=cast("Any", None), repr=False)
    content: ContentSource = field(default=no_content, repr=False)
    archive: ObjectArchive | None = field(default=None, repr=False)
    keep_answer: Callable[[int, bytes], None] = field(default=_no_answer, repr=False)
    resources: Resources = field(default=cast("Any", None), repr=False)

    async def submit(
        self,
        *,
        model: str,
        params: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        notify: Sequence[Mapping[str, Any]] = (),
        idempotency_key: str | None = None,
        client: str | None = None,
    ) -> TaskView:
        """Accept a task as `POST /v1/tasks` does, and return it once it is stored: it is not sent yet.

        It belongs to `client`, by default to `handler:NAME`, and counts for the limits of that client. The same
        `idempotency_key` gives the first task again. `notify` may name this handler, and those that clients may name.
        Raises InvalidTask with every fault in plain words, QueueIsFull, StoreUnavailable.
        """
        return await self.tasks.submit(
            model=model,
            params=params,
            metadata=metadata,
            notify=notify,
            idempotency_key=idempotency_key,
            client=client,
        )

    async def task(self, task_id: str, *, client: str | None = None) -> TaskView | None:
        """Return a task of this handler as it is now, None for an unknown one; its `note` says what it waits for."""
        return await self.tasks.task(task_id, client=client)

    async def cancel(self, task_id: str, *, client: str | None = None) -> TaskView:
        """Cancel a task of this handler; raises NotFound, Conflict with the reason, or UpstreamError."""
        return await self.tasks.cancel(task_id, client=client)

    async def schedule(
        self,
        name: str,
        key: str | None = None,
        data: Any = None,
        *,
        after: timedelta | float = 0,
        within: timedelta | float | None = None,
    ) -> datetime:
        """Let the job `name` of this handler run `after` seconds, durably and at least once; return when it is due.

        While a job with the same `key` waits, it gets the new data and time instead, but is due `within` the first
        request at the latest. While it runs, it runs once more afterwards. Without a key each request is a job.
        """
        return await self.jobs.schedule(name, key, data, after=after, within=within)

    async def unschedule(self, name: str, key: str) -> bool:
        """Delete a job that waits; return whether there was one."""
        return await self.jobs.unschedule(name, key)

    async def shared(self, name: str, open_: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return what `open_()` yields, such as a connection: the same for all calls with this name in this process.

        The context is entered by the first call, by a later one again after an error, and exited when the process ends.
        """
        return await self.resources.get(name, open_)
