"""Runs one attempt of a handler outside the queue: for the test event of a handler, and for tests of handlers."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from service.deliveries.attempt_outcome import AttemptContext, AttemptOutcome, classify_attempt, event_of
from service.deliveries.error_text import SecretMask
from service.deliveries.handler_api import Handler
from service.deliveries.tools import Tools
from service.domain.artifact import Artifact
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.task import Json


@dataclass(frozen=True, kw_only=True)
class SampleResults:
    """Stands for the results of a sample task, which is in no database: nothing is recorded."""

    output: Sequence[Json] = ()

    async def refetch(self, task_id: str) -> list[Json]:  # noqa: ARG002 - as in Results
        """Return the output of the sample task."""
        return list(self.output)

    async def keep(self, task_id: str, artifact: Artifact) -> None:
        """Record nothing."""


async def run_single_attempt(
    handler: Handler,
    claim: DeliveryClaim,
    tools: Callable[[DeliveryClaim, Handler], Tools[Any, Any]],
    *,
    schedule: Sequence[timedelta],
    clock: Clock,
    mask: SecretMask,
) -> AttemptOutcome:
    """Run the handler once for `claim`, and return how the attempt ended: what the dispatcher would record."""
    error: BaseException | None = None
    try:
        async with asyncio.timeout(handler.timeout):
            await handler.handle(event_of(claim), tools(claim, handler))
    except Exception as raised:  # noqa: BLE001 - a handler may raise anything
        error = raised
    context = AttemptContext(
        attempt=claim.attempt,
        limit=handler.attempts or len(schedule),
        schedule=schedule,
        now=clock.now(),
        jitter=0.0,
        secrets=[str(claim.target.get("secret") or "")],
        mask=mask,
        requested=bool(claim.target),
    )
    return classify_attempt(error, context)
