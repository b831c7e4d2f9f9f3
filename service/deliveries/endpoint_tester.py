"""Sends a test event to an endpoint: by the webhook handler, with the endpoint's secrets, headers and egress guard."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from service.deliveries.attempt_outcome import root_error
from service.deliveries.endpoint_messages import endpoint_test_event, unstored_claim
from service.deliveries.error_text import SecretMask, describe_error, is_unreachable, unreachable_text
from service.deliveries.handler_api import Handler, Tools
from service.deliveries.receiver_answer import receiver_answer, target_secrets
from service.domain.endpoint import Endpoint
from service.domain.errors import Conflict
from service.domain.ports.endpoints import EndpointTestResult
from service.domain.ports.queues import ReceiverAnswer
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import DeliveryClaim
from service.tasks.endpoint_targets import EndpointTargets

TESTS_AT_ONCE = 8
"""Test events that one process sends at once."""


@dataclass(kw_only=True)
class EndpointTester:
    """Sends test events with `handler`, the webhook handler; None where it is not loaded."""

    handler: Handler | None
    tools: Callable[[DeliveryClaim, Handler], Tools]
    targets: EndpointTargets
    clock: Clock
    new_id: Callable[[], str]
    mask: SecretMask
    _running: int = field(init=False, default=0)

    async def send(self, endpoint: Endpoint) -> EndpointTestResult:
        """Send one event of the type `endpoint.test`, and return what became of it; it counts for nothing else.

        Raises Conflict where the webhook handler is not loaded, and while many tests are running.
        """
        if self.handler is None:
            raise Conflict("the webhook handler is not loaded here: add it to BOOMERANG_HANDLERS")
        if self._running >= TESTS_AT_ONCE:
            raise Conflict("many test events are being sent now: try again")
        self._running += 1
        try:
            return await self._send(endpoint, self.handler)
        finally:
            self._running -= 1

    async def _send(self, endpoint: Endpoint, handler: Handler) -> EndpointTestResult:
        target = self.targets.target(endpoint.id, endpoint.url, endpoint.sealed)
        secrets = target_secrets(target)
        answers: list[ReceiverAnswer] = []
        claim = unstored_claim(endpoint, target, f"msg_test_{self.new_id()}", self.clock.now())
        tools = self.tools(claim, handler)
        tools = Tools(
            **vars(tools) | {"keep_answer": lambda status, body: answers.append(receiver_answer(status, body, secrets))}
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        error: str | None = None
        try:
            async with asyncio.timeout(handler.timeout):
                await handler.handle(endpoint_test_event(claim), tools)
        except Exception as failure:  # noqa: BLE001 - a handler may raise anything
            cause = root_error(failure)
            error = describe_error(cause, secrets, self.mask)
            error = unreachable_text(error) if is_unreachable(cause) else error
        return EndpointTestResult(
            message_id=claim.message_id,
            seconds=loop.time() - began,
            error=error,
            answer=answers[-1] if answers else None,
        )
