"""The ASGI applications: the API of a web process, and the probes of a worker."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp

from service.api.audit import AuditMiddleware, Auditor
from service.api.authentication import ApiKeyMiddleware, Pages
from service.api.callbacks import CallbackEndpoint
from service.api.circuits import CircuitApi
from service.api.connections import MAX_CONNECTIONS
from service.api.contents import ContentApi
from service.api.deliveries import DeliveryApi
from service.api.drop_in_routes import drop_in_routes
from service.api.event_streams import MAX_STREAMS, EventStreamApi
from service.api.handler_routes import HandlerEndpoint, HandlerRoutes
from service.api.handlers import HandlerApi
from service.api.health import ProbeApi
from service.api.logins import LoginApi, SignInTokens
from service.api.long_poll import MAX_WAITS, WAIT_MAX, LongPoll, Watching, not_watched
from service.api.models import ModelApi
from service.api.openapi.endpoint import OpenApi
from service.api.pages import PageTurns
from service.api.ports import (
    DeliveryLookup,
    EndpointTester,
    Links,
    Receiver,
    SinglePassRunner,
    Stopped,
    StoredContents,
    TaskErasure,
    TaskService,
    WaitingNotes,
)
from service.api.probe_answers import ProbeAnswers
from service.api.problem_shapes import error_response
from service.api.problems import raise_unexpected
from service.api.reconcile import ReconcileApi
from service.api.request_bodies import CALLBACK_BODIES, FILTER_BODIES, TASK_BODIES, BodyLimits, BodyReader
from service.api.request_context import RequestContextMiddleware
from service.api.request_work import BACKGROUND, RequestWork
from service.api.task_acceptor import TaskAcceptor
from service.api.tasks import TaskApi
from service.api.usage import UsageApi
from service.api.webhook_endpoints import WebhookEndpointApi
from service.domain.api_key import ApiKey
from service.domain.duration_histogram import Histograms
from service.domain.errors import BoomerangError
from service.domain.models.catalog import known_models
from service.domain.ports.audit import AuditLog
from service.domain.ports.circuits import Circuits
from service.domain.ports.health import Health
from service.domain.ports.replays import Replayer
from service.domain.ports.signals import Clock, Signals
from service.domain.ports.tasks import BlobStore, TaskQueries
from service.domain.ports.usage import UsageReports
from service.domain.prices import DEFAULT_EACH
from service.tasks.endpoints import EndpointService
from service.tasks.event_feed import EventFeed
from service.tasks.missed_replay import MissedReplay

if TYPE_CHECKING:
    from service.api.metrics import Counters


@dataclass(frozen=True, kw_only=True)
class WebLimits:
    """Limits of request bodies, by kind of request; how many requests may run, wait for tasks, and stream, at once.

    No request waits longer than `wait_seconds`.
    """

    tasks: BodyLimits = TASK_BODIES
    callbacks: BodyLimits = CALLBACK_BODIES
    requests: int = MAX_CONNECTIONS
    waits: int = MAX_WAITS
    streams: int = MAX_STREAMS
    wait_seconds: int = WAIT_MAX


@dataclass(frozen=True, kw_only=True)
class ProbeServices:
    """The sources of the probes and the metrics.

    Without `api_keys` only callers on this machine are served, as the admin `local`. `metrics_key` may read
    `/metrics` alone. `counters` and `histograms` return those of this process, by name (`polls`) and label;
    `budget_each` is BUDGET_EACH. `stopping` returns whether the process shuts down, and `stopped` returns when it
    does. `failure_reason` returns why the process is unhealthy, or None, `warnings` what an operator should know
    although it is healthy.
    """

    health: Health
    clock: Clock
    api_keys: Sequence[ApiKey] = field(default=(), repr=False)
    metrics_key: str | None = field(default=None, repr=False)
    counters: "Callable[[], Counters]" = dict
    histograms: Callable[[], Histograms] = dict
    budget_each: float = DEFAULT_EACH
    stopping: Callable[[], bool] = lambda: False
    stopped: Stopped = field(default_factory=lambda: asyncio.Event().wait)
    failure_reason: Callable[[], str | None] = lambda: None
    warnings: Callable[[], Sequence[str]] = tuple


@dataclass(frozen=True, kw_only=True)
class Services(ProbeServices):
    """The use cases, ports and limits that the API needs. `watching` marks a task as watched inside a block.

    `feed` has the events for the streams of this process, which end when the process stops.

    `public_url` is the beginning of signed links, None for that of the request. `logins` creates the tokens of links
    that sign in, None where there is no dashboard.
    """

    task_service: TaskService
    notes: WaitingNotes
    receiver: Receiver
    replayer: Replayer
    single_pass: SinglePassRunner
    queries: TaskQueries
    blobs: BlobStore
    deliveries: DeliveryLookup
    contents: StoredContents
    links: Links
    endpoints: EndpointService
    missed_replay: MissedReplay
    endpoint_tester: EndpointTester
    audit_log: AuditLog
    erasure: TaskErasure
    usage: UsageReports
    signals: Signals
    feed: EventFeed
    work: RequestWork = BACKGROUND
    watching: Watching = not_watched
    allow_off_peak: bool = False
    allow_unchecked: bool = False
    models: Sequence[str] = field(default_factory=known_models)
    handler_controls: HandlerApi
    circuits: Circuits
    handler_endpoints: Sequence[HandlerEndpoint] = ()
    public_url: str | None = None
    probes: ProbeAnswers | None = None
    logins: SignInTokens | None = None
    limits: WebLimits = field(default_factory=WebLimits)


def create_app(services: Services, pages: Pages | None = None) -> ASGIApp:
    """Return the application of a web process: the API, callbacks and probes, and the `pages` of the dashboard."""
    callbacks = CallbackEndpoint(
        receiver=services.receiver,
        bodies=BodyReader(services.limits.callbacks),
        probes=services.probes,
        work=services.work,
    )
    turns, contents = PageTurns(), _content_api(services)
    auditor = Auditor(audit_log=services.audit_log, clock=services.clock)
    # one reader for all APIs: its limit of memory counts the bodies of all of them
    acceptor = TaskAcceptor(task_service=services.task_service, bodies=BodyReader(services.limits.tasks))
    routes = [
        *(pages.routes() if pages else ()),
        *callbacks.routes(),
        *_task_routes(services, turns, acceptor),
        *contents.routes(),
        *_event_routes(services, pages),
        *drop_in_routes(services, acceptor, contents, auditor),
        *UsageApi(reports=services.usage, clock=services.clock, turns=turns).routes(),
        *_delivery_routes(services, turns),
        *services.handler_controls.routes(),
        *CircuitApi(circuits=services.circuits, clock=services.clock).routes(),
        *ModelApi(allow_off_peak=services.allow_off_peak, models=services.models).routes(),
        *LoginApi(tokens=services.logins, clock=services.clock, public_url=services.public_url).routes(),
        *ReconcileApi(services.single_pass).routes(),
        *OpenApi(allow_off_peak=services.allow_off_peak).routes(),
        *HandlerRoutes(services.handler_endpoints, services.work).routes(),
        *_probe_routes(services, lambda: {**services.counters(), **callbacks.counters()}),
    ]
    audit = Middleware(AuditMiddleware, auditor=auditor)
    router = _router(routes, services, audit, max_requests=services.limits.requests, pages=pages)
    return RequestContextMiddleware(router, callbacks=callbacks, problem_page=pages.problem_page if pages else None)


def create_probe_app(services: ProbeServices) -> ASGIApp:
    """Return the application of a worker: only `/healthz`, `/readyz` and `/metrics`."""
    return RequestContextMiddleware(_router(_probe_routes(services, services.counters), services))


def _delivery_routes(services: Services, turns: PageTurns) -> list[Route]:
    deliveries = DeliveryApi(
        queries=services.queries,
        lookup=services.deliveries,
        replayer=services.replayer,
        clock=services.clock,
        turns=turns,
        bodies=BodyReader(FILTER_BODIES),
        work=services.work,
    )
    endpoints = WebhookEndpointApi(
        service=services.endpoints,
        missed=services.missed_replay,
        tester=services.endpoint_tester,
        clock=services.clock,
        turns=turns,
        bodies=BodyReader(FILTER_BODIES),
    )
    return [*deliveries.routes(), *endpoints.routes()]


def _task_routes(services: Services, turns: PageTurns, acceptor: TaskAcceptor) -> list[Route]:
    long_poll = LongPoll(
        queries=services.queries,
        signals=services.signals,
        stopping=services.stopping,
        watching=services.watching,
        max_waits=services.limits.waits,
        max_seconds=int(min(services.limits.wait_seconds, services.work.max_wait)),
        work=services.work,
    )
    return TaskApi(
        task_service=services.task_service,
        erasure=services.erasure,
        queries=services.queries,
        blobs=services.blobs,
        long_poll=long_poll,
        acceptor=acceptor,
        notes=services.notes,
        turns=turns,
        work=services.work,
        clock=services.clock,
    ).routes()


def _content_api(services: Services) -> ContentApi:
    return ContentApi(
        queries=services.queries,
        contents=services.contents,
        links=services.links,
        clock=services.clock,
        bodies=BodyReader(FILTER_BODIES),
        public_url=services.public_url,
    )


def _event_routes(services: Services, pages: Pages | None) -> list[Route]:
    return EventStreamApi(
        feed=services.feed,
        queries=services.queries,
        watching=services.watching,
        stopped=services.stopped,
        pages=pages,
        max_streams=services.limits.streams,
    ).routes()


def _probe_routes(services: ProbeServices, counters: "Callable[[], Counters]") -> list[Route]:
    return ProbeApi(
        health=services.health,
        clock=services.clock,
        counters=counters,
        histograms=services.histograms,
        budget_each=services.budget_each,
        failure_reason=services.failure_reason,
        warnings=services.warnings,
    ).routes()


def _router(
    routes: Sequence[Route],
    services: ProbeServices,
    *inner: Middleware,
    max_requests: int = MAX_CONNECTIONS,
    pages: Pages | None = None,
) -> Starlette:
    keys = Middleware(
        ApiKeyMiddleware,
        routes=routes,
        api_keys=services.api_keys,
        metrics_key=services.metrics_key,
        max_requests=max_requests,
        pages=pages,
    )
    app = Starlette(
        routes=routes,
        middleware=[keys, *inner],
        exception_handlers={
            **dict.fromkeys((BoomerangError, HTTPException, ClientDisconnect), error_response),
            Exception: raise_unexpected,
        },
    )
    app.router.redirect_slashes = False  # a redirect would repeat a token, and hide a wrong address
    return app
