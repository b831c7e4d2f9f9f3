"""The endpoints of probes and metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.endpoints import json_response, route
from service.api.problems import Problem
from service.domain.duration_histogram import Histograms
from service.domain.errors import OperatorError
from service.domain.ports.health import Health
from service.domain.ports.signals import Clock
from service.domain.prices import DEFAULT_EACH

if TYPE_CHECKING:
    from service.api.metrics import Counters

READY_TIMEOUT = 5.0  # seconds
METRICS_TIMEOUT = 8.0  # seconds; Prometheus waits for ten

log = structlog.get_logger("boomerang.api")


@dataclass(frozen=True, kw_only=True)
class ProbeApi:
    """The endpoints `/healthz`, `/readyz` and `/metrics`.

    `counters` and `histograms` return those of this process; `budget_each` is what a task of unknown price counts as.
    `failure_reason` returns why it is unhealthy, or None;
    `warnings` returns what an operator should know although it is healthy.
    """

    health: Health
    clock: Clock
    counters: "Callable[[], Counters]"
    failure_reason: Callable[[], str | None]
    warnings: Callable[[], Sequence[str]] = tuple
    histograms: Callable[[], Histograms] = dict
    budget_each: float = DEFAULT_EACH

    def routes(self) -> list[Route]:
        """Return its routes. Balancers add a slash to the path of a probe, and ask `OPTIONS /` without a path."""
        served = {"/healthz": self.alive, "/readyz": self.ready, "/metrics": self.metrics, "/": _nothing}
        return [route(path, get=get) for path, get in served.items()] + [
            route(f"{path}/", get=get) for path, get in served.items() if path != "/"
        ]

    async def alive(self, _: Request) -> Response:
        """Respond 200 while the event loop runs."""
        return json_response({"status": "alive"})

    async def ready(self, _: Request) -> Response:
        """Respond 200 when the database answers, its schema fits and the process works; else 503 with the reason."""
        try:
            with anyio.fail_after(READY_TIMEOUT):
                reason = await self.health.ready() or self.failure_reason()
        except Exception as error:  # noqa: BLE001 - any failure of the database makes the process not ready
            log.warning("not ready", error=type(error).__qualname__)
            reason = "the database does not answer"
        if reason is None:
            warnings = list(self.warnings())
            return json_response({"status": "ready", **({"warnings": warnings} if warnings else {})})
        return Problem(status=503, kind="not-ready", detail=reason, headers={"Retry-After": "5"}).response()

    async def metrics(self, _: Request) -> Response:
        """Respond with the current metrics as Prometheus text, without a database with those of the process."""
        from service.api.metrics import MEDIA_TYPE, exposition  # noqa: PLC0415 - a start does not need its library

        gauges = None
        try:
            with anyio.fail_after(METRICS_TIMEOUT):
                gauges = await self.health.gauges(self.clock.now(), each=self.budget_each)
        except (OperatorError, TimeoutError) as error:
            log.warning("metrics without the database", error=type(error).__qualname__)
        return Response(exposition(gauges, self.counters(), self.histograms()), media_type=MEDIA_TYPE)


async def _nothing(_: Request) -> Response:
    raise HTTPException(HTTPStatus.NOT_FOUND)
