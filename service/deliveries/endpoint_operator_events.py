"""Posts operator events to the endpoints of admins that name them, as jobs of the webhook handler.

They are no deliveries: no task has such an event. A job is durable and retried, and one that fails for good is kept as
a failed job. It does not count for the health of the endpoint.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from service.deliveries.endpoint_messages import endpoint_test_event, unstored_claim
from service.deliveries.handler_api import Handler
from service.deliveries.handler_parts import HandlerJob, Job
from service.deliveries.tools import Tools
from service.domain.errors import Retry
from service.domain.ports.endpoints import EndpointReader
from service.domain.ports.operator_events import ENDPOINT_JOB
from service.domain.ports.unit_of_work import DeliveryClaim
from service.tasks.endpoint_targets import EndpointTargets

ATTEMPTS = 16
"""Attempts of one event, over most of a day."""

PAUSED_FOR = timedelta(minutes=10)
"""Pause after which a paused endpoint is looked at again."""


@dataclass(frozen=True, kw_only=True)
class EndpointOperatorEvents:
    """Posts with the webhook handler. `is_admin` returns whether a client is an admin now."""

    tools: Callable[[DeliveryClaim, Handler], Tools[Any, Any]]
    endpoints: EndpointReader
    targets: EndpointTargets
    is_admin: Callable[[str], bool]

    def added_to(self, handler: Handler) -> Handler:
        """Return the webhook handler with the job that posts operator events."""

        async def run(job: Job, _: Tools[Any, Any]) -> None:
            await self.post(job, handler)

        job = HandlerJob(
            handler=handler.name, name=ENDPOINT_JOB, run=run, attempts=ATTEMPTS, timeout=handler.timeout + 1.0
        )
        return replace(handler, jobs=(*handler.jobs, job))

    async def post(self, job: Job, handler: Handler) -> None:
        """Post one event; nothing is left to do for an endpoint that is deleted or disabled, or no admin's any more.

        Raises Retry while the endpoint is paused, and what the webhook handler raises.
        """
        endpoint = await self.endpoints.get(job.data["endpoint"])
        if endpoint is None or endpoint.disabled_at or not self.is_admin(endpoint.client):
            return
        if endpoint.paused:
            raise Retry("the endpoint is paused", after=PAUSED_FOR)
        event = job.data["event"]
        body = {"id": event["id"], "type": event["type"], "timestamp": event["at"], "data": event["data"]}
        target = self.targets.target(endpoint.id, endpoint.url, endpoint.sealed) | {"body": body}
        claim = unstored_claim(endpoint, target, f"msg_{job.id}", job.created_at)
        await handler.handle(endpoint_test_event(claim), self.tools(claim, handler))  # the handler posts the body
