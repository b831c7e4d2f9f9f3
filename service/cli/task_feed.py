"""Tasks as they change: from the event stream of the service, or by polling the list where it has none."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

import anyio
import httpx

from service.cli import Unreachable
from service.cli.api_client import Client
from service.cli.output import clean
from service.cli.response_checks import is_task
from service.cli.responses import parse_response, read_body
from service.domain.task import Json

PAGE = 50
"""Tasks of the list that are read at first, the newest ones, and again after each lost connection."""

POLL_SECONDS = 2.0
"""Pause between two readings of the list, and before another connection."""

MAX_TRIES = 30
"""Failures in a row after which the command ends: a minute."""

MAX_KNOWN = 1000
"""Tasks of which the last status is kept, those seen last: a command may run for months."""

POSITION = "Last-Event-ID"
MAX_LINE = 4 * 1024 * 1024
"""Bytes of one line of the stream: an event contains the parameters of a task."""

NO_STREAM = frozenset({404, 405})
"""Statuses of a service of an earlier release, which has no event stream."""


@dataclass(frozen=True, kw_only=True)
class TaskChanges:
    """Tasks that are new or have changed, newest first; `lost` says why none come at the moment, else it is empty."""

    tasks: list[Json] = field(default_factory=list)
    lost: str = ""


@dataclass(kw_only=True)
class TaskFeed:
    """The changes of all tasks that the caller may see."""

    client: Client
    _position: str = field(default="", init=False)
    _known: dict[str, tuple[object, ...]] = field(default_factory=dict, init=False)
    _failures: int = field(default=0, init=False)

    async def changes(self) -> AsyncGenerator[TaskChanges]:
        """Yield the newest tasks first, then each change. Raises UsageError, and CommandFailed after MAX_TRIES."""
        streams = True
        while True:
            try:
                if streams:
                    async for changes in self._stream():
                        yield changes
                    streams = self._position != ""
                else:
                    yield await self._listed()
            except (Unreachable, httpx.HTTPError) as error:
                self._failures += 1
                lost = getattr(error, "message", "") or f"the connection to {self.client.url} was lost"
                if self._failures >= MAX_TRIES:
                    raise Unreachable(lost) from error
                yield TaskChanges(lost=lost)
            await anyio.sleep(POLL_SECONDS)

    async def _listed(self) -> TaskChanges:
        """Return the tasks of the list that have changed."""
        page = await self.client.tasks(limit=PAGE)
        self._failures = 0
        return TaskChanges(tasks=[task for task in page["data"] if self._is_new(task)])

    async def _stream(self) -> AsyncIterator[TaskChanges]:
        """Yield the list, which may have changed meanwhile, then what the stream brings until it ends."""
        headers = {"Accept": "text/event-stream"} | ({POSITION: self._position} if self._position else {})
        async with self.client.open_stream("v1/events", headers) as response:
            if response.status_code in NO_STREAM:
                return
            if not response.is_success or "event-stream" not in response.headers.get("content-type", ""):
                parse_response(response, await read_body(response), lambda _: False)
            self._position = self._position or response.headers.get(POSITION, "")
            yield await self._listed()
            async for position, task in _events(response):
                self._position = position
                if self._is_new(task):
                    yield TaskChanges(tasks=[task])

    def _is_new(self, task: Json) -> bool:
        """Return whether the task looks otherwise than before, and remember how it looks."""
        now = (task["status"], task.get("progress"), task.get("note"))
        before = self._known.pop(task["id"], None)
        self._known[task["id"]] = now
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]
        return now != before


async def _text_lines(response: httpx.Response) -> AsyncIterator[str]:
    """Yield the lines of a stream; raises Unreachable for one that is longer than MAX_LINE."""
    rest = b""
    async for chunk in response.aiter_raw():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip("\r")
        if len(rest) > MAX_LINE:
            raise Unreachable(f"{clean(response.url.host)} sends events that are too long")


async def _events(response: httpx.Response) -> AsyncIterator[tuple[str, Json]]:
    """Yield the position and the task of each event of a stream. Raises Unreachable."""
    position, data = "", ""
    async for line in _text_lines(response):
        name, _, value = line.partition(":")
        if name == "id":
            position = value.strip()
        elif name == "data":
            data = value
        elif not line and data:
            with suppress(ValueError, RecursionError, KeyError, TypeError):
                task = json.loads(data)["data"]["task"]
                if isinstance(task, dict) and is_task(task):
                    yield position, task
            data = ""
