"""Whether the process lives, whether it can work, and how it fares."""

from collections.abc import Callable
from dataclasses import dataclass

import anyio
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.metrics import MEDIA_TYPE, Counters, exposition
from service.api.problems import Problem
from service.api.responses import json_response
from service.api.routing import route
from service.domain.ports.health import Health
from service.domain.ports.signals import Clock

READY_TIMEOUT = 5.0  # seconds

log = structlog.get_logger("service.api")


@dataclass(frozen=True, kw_only=True)
class ProbeApi:
    """Answers `/healthz`, `/readyz` and `/metrics`.

    `counters` are those of this process; `failure_reason` returns why it is unhealthy, or None.
    """

    health: Health
    clock: Clock
    counters: Callable[[], Counters]
    failure_reason: Callable[[], str | None]

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            route("/healthz", get=self.alive),
            route("/readyz", get=self.ready),
            route("/metrics", get=self.metrics),
        ]

    async def alive(self, _: Request) -> Response:
        """Answer as long as the process can."""
        return json_response({"status": "alive"})

    async def ready(self, _: Request) -> Response:
        """Answer 200 when the database answers, its schema fits and the process works; else 503 with what to do."""
        wrong = await self._what_is_wrong()
        if wrong is None:
            return json_response({"status": "ready"})
        return Problem(status=503, kind="not-ready", detail=wrong, headers={"Retry-After": "5"}).response()

    async def metrics(self, _: Request) -> Response:
        """Answer with the current reading as Prometheus text."""
        gauges = await self.health.gauges(self.clock.now())
        return Response(exposition(gauges, self.counters()), media_type=MEDIA_TYPE)

    async def _what_is_wrong(self) -> str | None:
        try:
            with anyio.fail_after(READY_TIMEOUT):
                return await self.health.ready() or self.failure_reason()
        except Exception as error:  # noqa: BLE001 - whatever keeps the database from answering, we are not ready
            log.warning("not_ready", error=type(error).__qualname__)
            return "the database does not answer"
