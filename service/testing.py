"""Test handlers without a network: sample events, tools over a temporary database, a fake clock, and the sandbox.

```python
async with HandlerTest(handlers, settings={"BOT_TOKEN": "secret"}) as test:
    outcome = await test.deliver(sample_event("task.completed"), target={"chat": 7})
    assert outcome.delivered, outcome.error
```

Everything but the network is real: settings and options are checked, routes have their limits, state and jobs are
stored, and submitted tasks run in the sandbox, which needs the extra `media`.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from service.api.app import WebLimits, create_app
from service.deliveries.egress_clients import EgressClients
from service.deliveries.handler_api import Handler, Handlers
from service.deliveries.handler_finder import import_handlers
from service.deliveries.handler_loader import ready_handlers
from service.deliveries.sample_event import SAMPLE_AT, claim_of, sample_event, sample_task
from service.deliveries.single_attempt import run_single_attempt
from service.deliveries.tools import Event, Tools
from service.domain.ports.tasks import TaskFilter
from service.domain.task import SETTLED, Status, TaskId
from service.domain.task_view import TaskView, task_json
from service.providers import open_provider
from service.runtime.bootstrap import ApplicationBuilder
from service.runtime.config.dotenv import PREFIX
from service.runtime.config.settings import Settings, load_settings
from service.runtime.handler_settings import secret_mask
from service.runtime.web import build_services, probe_services
from service.sandbox import MediaExtraMissing, Sandbox, Switches
from service.storage import migrate, open_store

__all__ = ["FakeClock", "HandlerTest", "Outcome", "load_handlers", "sample_event", "sample_task"]

SIGNING_KEY = "signing-key-of-a-handler-test-123"
FILE = "test.db"
STEP = 5.0
MAX_STEPS = 1000
"""Seconds by which the clock moves while a task runs, and how often."""

Respond = Callable[[httpx.Request], httpx.Response]


@dataclass
class FakeClock:
    """A clock that moves only when a test moves it."""

    at: datetime = SAMPLE_AT

    def now(self) -> datetime:
        """Return the time of the clock."""
        return self.at

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.at += timedelta(seconds=seconds)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an attempt ended: `delivered`, `retry` (the next one is due `after` seconds) or `dead`, and its error."""

    outcome: Literal["delivered", "retry", "dead"]
    error: str | None = None
    after: float | None = None

    @property
    def delivered(self) -> bool:
        """Return whether the handler returned without an error."""
        return self.outcome == "delivered"


def _answer_ok(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={})


@dataclass(kw_only=True)
class _Recorder(httpx.AsyncBaseTransport):
    """Answers the requests of handlers with `respond`, and records them."""

    respond: Respond
    requests: list[httpx.Request] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        return self.respond(request)


class HandlerTest:
    """Runs the handlers of one module; use it with `async with`.

    `settings` are those of the handlers and the service, without the prefix BOOMERANG_. `respond` answers the HTTP
    requests of the handlers, by default with 200 and an empty object; `requests` has them all. `clock` is the time of
    the service, which `advance` moves. `switches` set the behaviour of the sandbox.
    Entering raises BadSetting for settings that are missing or wrong, as the start of the service would.
    """

    def __init__(
        self,
        handlers: Handlers,
        name: str | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        respond: Respond = _answer_ok,
        clock: FakeClock | None = None,
        switches: Switches | None = None,
    ) -> None:
        self._declared = {handler.name: handler for handler in handlers}
        self._name = name or next(iter(self._declared))
        self._given = dict(settings or {})
        self._transport = _Recorder(respond=respond)
        self._switches = switches or Switches(run_time=0.0, tiny_videos=True, callbacks=False)
        self._stack = AsyncExitStack()
        self.clock = clock or FakeClock()

    async def __aenter__(self) -> Self:
        """Start the service, without a port and without jobs in the background."""
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it, and remove its database."""
        await self._stack.aclose()

    async def _open(self) -> None:
        directory = Path(self._stack.enter_context(TemporaryDirectory()))
        self._settings = _settings(directory, self._given, self._declared.values())
        handlers = ready_handlers(self._declared, self._settings.handlers, self._settings.present)
        (directory / FILE).write_bytes(await _migrated_file(directory))
        store = await self._stack.enter_async_context(open_store(self._settings.database_url))
        upstream = await self._stack.enter_async_context(await self._provider())
        http = await self._stack.enter_async_context(httpx.AsyncClient(transport=self._transport))
        builder = ApplicationBuilder(
            settings=self._settings,
            clock=self.clock,
            store=store,
            upstream=open_provider(
                "vtrix", transport=upstream, base_url="http://sandbox", key="k", rate=1e6, concurrency=16
            ),
            handlers=handlers,
            jitter=lambda: 0.0,
        )
        self._application = builder.build(EgressClients(notify=http, handlers=http))
        self._stack.push_async_callback(self._application.tools.resources.close)
        self._stack.push_async_callback(self._application.worker.drain, 1.0)
        probes = probe_services(self._application, asyncio.Event(), lambda: None)
        services = build_services(self._application, probes, WebLimits())
        transport = httpx.ASGITransport(create_app(services))
        self._web = await self._stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")
        )

    async def _provider(self) -> httpx.AsyncBaseTransport:
        """Return the way to the sandbox; without the extra `media` a request to it raises MediaExtraMissing."""
        try:
            source = random.Random(7)  # noqa: S311 - not a secret
            self.sandbox = Sandbox(self._switches, now=self.clock.now, random=source)
        except MediaExtraMissing as missing:
            self._missing = missing
            return httpx.MockTransport(self._raise_missing)
        await self._stack.enter_async_context(self.sandbox.running())
        return httpx.ASGITransport(self.sandbox.app)

    def _raise_missing(self, _: httpx.Request) -> httpx.Response:
        raise self._missing

    # ── what a test uses ─────────────────────────────────────────────────────

    @property
    def handler(self) -> Handler:
        """Return the handler that is tested."""
        return self._application.handlers[self._name]

    @property
    def tools(self) -> Tools[Any, Any]:
        """Return the tools of its routes and jobs."""
        return self._application.tools.for_handler(self.handler)

    @property
    def requests(self) -> list[httpx.Request]:
        """Return the HTTP requests that the handlers have made."""
        return self._transport.requests

    async def deliver(
        self,
        event: Event | str = "task.completed",
        *,
        target: Mapping[str, Any] | None = None,
        attempt: int = 1,
        message_id: str | None = None,
    ) -> Outcome:
        """Run one attempt of a delivery; `target` is what the `notify` entry has beside `handler`, None without one.

        `message_id` is by default the same for each attempt of an event; a replay has another one.
        """
        event = sample_event(event) if isinstance(event, str) else event
        handler = self.handler
        entry = {} if target is None else {"handler": handler.name, **target}
        claim = claim_of(event, handler.name, entry, attempt=attempt)
        claim = replace(claim, message_id=message_id or claim.message_id)
        found = await run_single_attempt(
            handler,
            claim,
            self._application.tools,
            schedule=self._settings.retry_schedule,
            clock=self.clock,
            mask=secret_mask(self._settings, self._declared.values()),
        )
        after = (found.due_at - self.clock.now()).total_seconds() if found.due_at else None
        return Outcome(outcome=found.outcome, error=found.error, after=after)

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to a route of the handler; `options` are those of `httpx.AsyncClient.request`."""
        return await self._web.request(method, f"/handlers/{self._name}{path}", **options)

    async def advance(self, seconds: float) -> None:
        """Move the clock, and do everything that is due then: jobs, submissions, polls and deliveries."""
        self.clock.advance(seconds)
        await self._application.worker.reconcile_once()

    async def tasks(self) -> list[TaskView]:
        """Return all submitted tasks, the oldest first."""
        found = await self._application.store.queries.tasks(TaskFilter(limit=200))
        return [TaskView.from_json(task_json(task)) for task in reversed(found)]

    async def finish(self, task_id: str) -> TaskView:
        """Let a task run in the sandbox until it has ended and its events are delivered; return it."""
        for _ in range(MAX_STEPS):
            task = await self._application.store.queries.task(TaskId(task_id))
            if task is None:
                raise LookupError(f"there is no task {task_id}")
            if task.status in SETTLED | {Status.EXPIRED}:
                await self.advance(0)
                return TaskView.from_json(task_json(task))
            await self.advance(STEP)
        raise TimeoutError(f"task {task_id} did not end")


def load_handlers(file: Path) -> Handlers:
    """Return the `Handlers` object of a module, imported as the service would; raises BadHandler."""
    return import_handlers(file)


_migrated: list[bytes] = []


async def _migrated_file(directory: Path) -> bytes:
    """Return an empty migrated database, which is made once in a process."""
    if not _migrated:
        new = directory / "template.db"
        await migrate(f"sqlite:///{new}")
        _migrated.append(new.read_bytes())
    return _migrated[0]


def _settings(directory: Path, given: Mapping[str, str], handlers: Iterable[Handler]) -> Settings:
    own = {"DATABASE_URL": f"sqlite:///{directory / FILE}", "UPSTREAM_KEY": "k", "SECRET_KEYS": SIGNING_KEY}
    variables = {PREFIX + name: text for name, text in {**own, **given}.items()}
    return load_settings(variables, needed={name for handler in handlers for name in handler.uses})
