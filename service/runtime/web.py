"""The web part of a process: its ASGI application, its limits, and its port."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from service.api.app import ProbeServices, Services, WebLimits, create_app, create_probe_app
from service.api.authentication import Pages
from service.api.handler_routes import HandlerEndpoint
from service.api.handlers import HandlerApi, LoadedHandler
from service.api.probe_answers import ProbeAnswers
from service.api.request_bodies import FILTER_BODIES, BodyReader
from service.api.request_work import BACKGROUND, RequestWork
from service.api.server import listen, serving
from service.deliveries.handler_parts import HandlerRoute
from service.deliveries.tools import Tools
from service.domain.errors import BadSetting
from service.domain.probe_tokens import ProbeTokens
from service.domain.session_tokens import SessionTokens
from service.providers import served_models
from service.runtime.application import Application
from service.runtime.config.settings import Settings
from service.runtime.late_dashboard import LateDashboard
from service.runtime.limits import limits_of
from service.runtime.noted_pass import NotedPass
from service.runtime.open_files import max_streams, max_waits
from service.runtime.serverless import ServerlessWork
from service.runtime.shutdown import DRAIN_TIMEOUT
from service.tasks.erasure import TaskErasure
from service.tasks.event_feed import EventFeed

Role = Literal["all", "web", "worker"]

FailureReason = Callable[[], str | None]
"""Returns why the process is unhealthy, or None."""


def web_limits(settings: Settings, connections: int) -> WebLimits:
    """Return the limits of requests for a process that may keep so many connections open."""
    seconds = int(settings.wait_max.total_seconds())
    return WebLimits(
        requests=connections,
        waits=max_waits(connections),
        streams=max_streams(connections),
        wait_seconds=seconds,
    )


@asynccontextmanager
async def open_port(
    app: ASGIApp, host: str, port: int, *, max_connections: int, keep_alive: timedelta
) -> AsyncIterator[str]:
    """Serve `app` inside the block and yield its address; requests have DRAIN_TIMEOUT seconds to end.

    An idle connection stays open for `keep_alive`. Raises BadSetting for a port that cannot be opened.
    """
    try:
        server_socket = listen(host, port)
    except OSError as error:
        raise BadSetting(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from error
    seconds = keep_alive.total_seconds()
    async with serving(
        app, server_socket, grace=DRAIN_TIMEOUT, max_connections=max_connections, keep_alive=seconds
    ) as address:
        yield address


def build_app(
    application: Application,
    role: Role,
    stopping: asyncio.Event,
    failure_reason: FailureReason,
    limits: WebLimits | None = None,
    *,
    work: RequestWork = BACKGROUND,
) -> ASGIApp:
    """Return the application of a process with this role: a worker has the probes and the metrics only."""
    probes = probe_services(application, stopping, failure_reason)
    services = build_services(application, probes, limits or WebLimits(), work)
    if role == "worker":
        return create_probe_app(services)
    return create_app(services, build_dashboard(application, services))


def build_dashboard(application: Application, services: Services) -> Pages | None:
    """Return the dashboard over the same services as the API, None where DASHBOARD is off."""
    if application.settings.dashboard == "off":
        return None
    return LateDashboard(build=partial(_dashboard, application, services))


def _dashboard(application: Application, services: Services) -> Pages:
    from service.dashboard.app import Dashboard  # noqa: PLC0415 - a start needs no page

    store = application.store
    return Dashboard(
        services=services,
        tokens=_session_tokens(application),
        sign_ins=store.ended_sign_ins,
        prices=store.prices,
        details=store.delivery_details,
        overview=store.overview,
        samples=store.health_samples,
        limits=limits_of(application.settings),
    )


def _session_tokens(application: Application) -> SessionTokens:
    keys = application.keys
    return SessionTokens(keys.key_ring, may_lack_keys=keys.may_lack_keys)


def build_services(
    application: Application, probes: ProbeServices, limits: WebLimits, work: RequestWork = BACKGROUND
) -> Services:
    """Return what the API needs of the application."""
    return Services(
        **vars(probes),
        endpoints=application.delivery_parts.endpoints,
        missed_replay=application.delivery_parts.missed_replay,
        endpoint_tester=application.delivery_parts.tester,
        task_service=application.task_service,
        notes=application.notes,
        receiver=application.receiver,
        replayer=application.store.replays,
        single_pass=_single_pass(application, work),
        work=work,
        queries=application.store.queries,
        blobs=application.store.blobs,
        deliveries=application.store.deliveries,
        contents=application.contents,
        links=application.links,
        public_url=application.settings.public_url,
        probes=ProbeAnswers(tokens=ProbeTokens(application.keys.key_ring), clock=application.clock),
        audit_log=application.store.audit_log,
        logins=_session_tokens(application) if application.settings.dashboard == "on" else None,
        signals=application.store.signals,
        feed=EventFeed(application.store.events, application.store.signals),
        usage=application.store.usage,
        erasure=_erasure(application),
        watching=application.worker.watch.watching,
        allow_off_peak=application.settings.allow_off_peak,
        allow_unchecked=application.settings.allow_unchecked_models and application.settings.provider != "vidu",
        models=served_models(application.settings.provider),
        handler_controls=_handler_controls(application),
        circuits=application.store.circuits,
        handler_endpoints=_handler_endpoints(application),
        limits=limits,
    )


def probe_services(application: Application, stopping: asyncio.Event, failure_reason: FailureReason) -> ProbeServices:
    """Return what the probes need of the application; no request waits any more once `stopping` is set."""
    return ProbeServices(
        health=application.store.health,
        clock=application.clock,
        api_keys=application.settings.api_keys,
        metrics_key=application.settings.metrics_key,
        counters=application.counters,
        histograms=application.histograms,
        budget_each=float(application.settings.budget_each),
        stopping=stopping.is_set,
        stopped=stopping.wait,
        failure_reason=failure_reason,
        warnings=application.warnings,
    )


def _single_pass(application: Application, work: RequestWork) -> NotedPass:
    """Return what does everything that is due once, and notes when it did."""
    inner = work if isinstance(work, ServerlessWork) else application.worker
    return NotedPass(inner=inner, runs=application.store.last_runs, clock=application.clock)


def _erasure(application: Application) -> TaskErasure:
    store = application.store
    return TaskErasure(queries=store.queries, eraser=store.eraser, files=application.contents, clock=application.clock)


def _handler_controls(application: Application) -> HandlerApi:
    loaded = [
        LoadedHandler(names=each.names, events=each.events, by_request=each.by_request)
        for each in application.handlers.values()
    ]
    return HandlerApi(
        loaded=loaded,
        pauses=application.store.handler_pauses,
        pending=application.store.deliveries,
        tester=application.delivery_parts.handler_tester,
        clock=application.clock,
        bodies=BodyReader(FILTER_BODIES),
    )


def _handler_endpoints(application: Application) -> list[HandlerEndpoint]:
    """Return the routes of the loaded handlers with their tools, under their former names too."""
    return [
        HandlerEndpoint(
            handler=handler.name,
            method=route.method,
            path=route.path_under(name),
            respond=partial(_respond, route, application.tools.for_handler(handler)),
            max_body=route.max_body,
            timeout=route.timeout,
            answer_first=route.answer_first,
        )
        for handler in application.handlers.values()
        for name in handler.names
        for route in handler.routes
    ]


async def _respond(route: HandlerRoute, tools: Tools, request: Request) -> Response:
    return await route.respond(request, tools)
