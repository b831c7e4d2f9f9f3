"""The ASGI applications: the whole one, and the small one of a worker."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp

from service.api.authentication import ApiKeyMiddleware
from service.api.callbacks import CallbackEndpoint, CallbackFastPath
from service.api.deliveries import DeliveryApi
from service.api.health import ProbeApi
from service.api.long_poll import LongPoll
from service.api.metrics import Counters
from service.api.models import ModelApi
from service.api.openapi.endpoint import OpenApi
from service.api.ports import DeliveryLookup, Desk, Receiver, Replayer, Rounds
from service.api.problems import answer_error
from service.api.reconcile import ReconcileApi
from service.api.request_bodies import CALLBACK_BODIES, TASK_BODIES, BodyLimits
from service.api.request_context import RequestContextMiddleware
from service.api.tasks import TaskApi
from service.domain.api_key import ApiKey
from service.domain.errors import BoomerangError
from service.domain.ports.health import Health
from service.domain.ports.signals import Clock, Signals
from service.domain.ports.tasks import BlobStore, TaskQueries


def _no_counters() -> Counters:
    return {}


def _never() -> bool:
    return False


def _nothing() -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class WebLimits:
    """How large, how many and how slow bodies may be."""

    tasks: BodyLimits = TASK_BODIES
    callbacks: BodyLimits = CALLBACK_BODIES


@dataclass(frozen=True, kw_only=True)
class ProbeServices:
    """What a process needs to tell about itself.

    Without `api_keys` only callers on this machine are served, as an admin named `local`. `counters` are those of
    this process, by name (`polls`) and label; `stopping` returns whether the process is about to end,
    `failure_reason` why it is unhealthy, or None.
    """

    health: Health
    clock: Clock
    api_keys: Sequence[ApiKey] = field(default=(), repr=False)
    counters: Callable[[], Counters] = _no_counters
    stopping: Callable[[], bool] = _never
    failure_reason: Callable[[], str | None] = _nothing


@dataclass(frozen=True, kw_only=True)
class Services(ProbeServices):
    """Everything that the HTTP edge speaks to."""

    task_service: Desk
    receiver: Receiver
    replayer: Replayer
    rounds: Rounds
    queries: TaskQueries
    blobs: BlobStore
    deliveries: DeliveryLookup
    signals: Signals
    allow_off_peak: bool = False
    limits: WebLimits = field(default_factory=WebLimits)


def create_app(services: Services) -> ASGIApp:
    """Return the application of a web process: the API, callbacks and probes."""
    waiting = LongPoll(queries=services.queries, signals=services.signals, stopping=services.stopping)
    door = CallbackEndpoint(services.receiver, services.limits.callbacks)
    tasks = TaskApi(services.task_service, services.queries, services.blobs, waiting, services.limits.tasks)
    routes = [
        *door.routes(),
        *tasks.routes(),
        *DeliveryApi(services.queries, services.deliveries, services.replayer, services.clock).routes(),
        *ModelApi(allow_off_peak=services.allow_off_peak).routes(),
        *ReconcileApi(services.rounds).routes(),
        *OpenApi(allow_off_peak=services.allow_off_peak).routes(),
        *_probes(services, lambda: _added(services.counters(), "callbacks", door.refused)),
    ]
    return CallbackFastPath(_framed(routes, services.api_keys), door=RequestContextMiddleware(door))


def create_probe_app(services: ProbeServices) -> Starlette:
    """Return the application of a worker: only `/healthz`, `/readyz` and `/metrics`."""
    return _framed(_probes(services, services.counters), services.api_keys)


def _probes(services: ProbeServices, counters: Callable[[], Counters]) -> list[Route]:
    return ProbeApi(
        health=services.health, clock=services.clock, counters=counters, failure_reason=services.failure_reason
    ).routes()


def _added(counters: Counters, name: str, counts: Mapping[str, int]) -> Counters:
    return {**counters, name: Counter(counters.get(name, {})) + Counter(counts)}


def _framed(routes: Sequence[Route], api_keys: Sequence[ApiKey]) -> Starlette:
    app = Starlette(
        routes=routes,
        middleware=[Middleware(RequestContextMiddleware), Middleware(ApiKeyMiddleware, api_keys=api_keys)],
        exception_handlers=dict.fromkeys((BoomerangError, HTTPException, ClientDisconnect), answer_error),
    )
    app.router.redirect_slashes = False  # a redirect would spell out a token, and hide a wrong address
    return app
