"""Sends a clearly marked sample event through a loaded handler, with the real settings; nothing is stored."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from service.deliveries.handler_api import Handler
from service.deliveries.handler_loader import not_loaded
from service.deliveries.handler_tools import ToolsFactory
from service.deliveries.sample_event import claim_of, sample_event
from service.deliveries.single_attempt import SampleResults, run_single_attempt
from service.domain.errors import Conflict, NotFound
from service.domain.notify import validate_notify
from service.domain.ports.handler_tests import HandlerTestResult
from service.domain.ports.signals import Clock
from service.domain.task import EventType, Json
from service.runtime.config.settings import Settings
from service.runtime.handler_settings import egress_settings, secret_mask
from service.runtime.handler_setup import notify_rules

TESTS_AT_ONCE = 8
"""Test events that one process sends at once."""


@dataclass(kw_only=True)
class HandlerTests:
    """Implements `HandlerTester` for the loaded `handlers`."""

    settings: Settings
    handlers: Mapping[str, Handler]
    tools: ToolsFactory
    clock: Clock
    _running: int = field(default=0, init=False)

    async def send(
        self, name: str, *, target: Mapping[str, object] | None = None, event_type: str | None = None
    ) -> HandlerTestResult:
        """Run the handler `name` once for a marked sample event.

        `target` is what its `notify` entry has beside `handler`, None without one. Raises NotFound for a handler that
        is not loaded, Conflict where it needs a target or many tests run, InvalidParams for a target with faults.
        """
        handler = self._loaded(name)
        entry: Json = {} if target is None else {"handler": handler.name, **target}
        if entry:
            refusal = egress_settings(self.settings).for_notify().refusal
            validate_notify([entry], handler.names, refusal, notify_rules(self.settings, [handler]))
        elif handler.by_request:
            raise Conflict(f"handler {name!r} delivers what a notify entry asks for; give the entry as target")
        if self._running >= TESTS_AT_ONCE:
            raise Conflict("many test events are being sent now: try again")
        self._running += 1
        try:
            return await self._send(handler, entry, event_type or _event_type(handler))
        finally:
            self._running -= 1

    async def _send(self, handler: Handler, entry: Json, event_type: str) -> HandlerTestResult:
        event = sample_event(event_type, at=self.clock.now())
        began = time.perf_counter()
        outcome = await run_single_attempt(
            handler,
            claim_of(event, handler.name, entry),
            replace(self.tools, results=SampleResults(output=event.task.output)),
            schedule=self.settings.retry_schedule,
            clock=self.clock,
            mask=secret_mask(self.settings, [handler]),
        )
        return HandlerTestResult(
            handler=handler.name,
            event=event.type,
            outcome=outcome.outcome,
            error=outcome.error,
            seconds=round(time.perf_counter() - began, 3),
        )

    def _loaded(self, name: str) -> Handler:
        for handler in self.handlers.values():
            if name in handler.names:
                return handler
        reason = not_loaded(self.settings.handlers, self.settings.present).get(name)
        known = ", ".join(sorted(self.handlers)) or "none"
        if reason:
            raise NotFound(f"handler {name!r} {reason}")
        raise NotFound(f"there is no handler {name!r}; loaded are {known}")


def _event_type(handler: Handler) -> str:
    wanted = (EventType.COMPLETED, EventType.ARTIFACT_STORED, *sorted(handler.events))
    return next(each for each in wanted if each in handler.events)
