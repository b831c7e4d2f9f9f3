"""Registers functions for operator events, and hands the events to them as jobs of their handlers."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from service.deliveries.handler_parts import HandlerJob, Job
from service.deliveries.tools import Event, Tools
from service.domain.errors import BadHandler
from service.domain.operator_event import OperatorEvent, OperatorEventType, operator_types_of
from service.domain.ports.operator_events import ENDPOINT_JOB, OPERATOR_JOB, OperatorEvents, OperatorSubscriber
from service.domain.ports.signals import Clock
from service.domain.task_view import parse_time

if TYPE_CHECKING:
    from service.deliveries.handler_api import Handler

HandleOperatorEvent = Callable[[OperatorEvent, Tools[Any, Any]], Awaitable[None]]
F = TypeVar("F", bound=HandleOperatorEvent)

KEPT_FOR = timedelta(days=30)
"""How long operator events are kept."""


def operator_types(handler: str, events: Iterable[str]) -> frozenset[str]:
    """Return the types that a handler asks for, by default all; raises BadHandler for unknown ones."""
    wanted = frozenset(events) or frozenset(OperatorEventType)
    if unknown := sorted(map(str, wanted - frozenset(OperatorEventType))):
        known = ", ".join(OperatorEventType)
        raise BadHandler(f"handler {handler!r} asks for unknown events {', '.join(unknown)}; known are {known}")
    return frozenset(str(each) for each in wanted)


def operator_job(handler: str, handle: HandleOperatorEvent, *, attempts: int, timeout: float) -> HandlerJob:
    """Return the job that gives an operator event to `handle`."""

    async def run(job: Job, tools: Tools[Any, Any]) -> None:
        stored = job.data
        at = parse_time(stored["at"]) or job.created_at
        await handle(OperatorEvent(id=stored["id"], type=stored["type"], at=at, data=stored["data"]), tools)

    return HandlerJob(handler=handler, name=OPERATOR_JOB, run=run, attempts=attempts, timeout=timeout)


async def nothing_to_handle(event: Event, tools: Tools[Any, Any]) -> None:
    """Handle events of tasks for a handler that asks for operator events alone: there are none."""


@dataclass(kw_only=True, slots=True)
class OperatorEventQueue:
    """Hands operator events to the loaded handlers that ask for them; of several processes one does it.

    Where the webhook handler is loaded, endpoints of admins get those that their filter names; `is_admin` returns
    whether a client is one.
    """

    handlers: Iterable["Handler"]
    events: OperatorEvents
    clock: Clock
    is_admin: Callable[[str], bool] = lambda _: False
    _handlers: Sequence[OperatorSubscriber] = field(init=False)
    _to_endpoints: bool = field(init=False)

    def __post_init__(self) -> None:
        subscribed = [each for each in self.handlers if each.operator_events]
        self._handlers = [OperatorSubscriber(name=each.stored_name, types=each.operator_events) for each in subscribed]
        self._to_endpoints = any(job.name == ENDPOINT_JOB for each in self.handlers for job in each.jobs)

    @property
    def needed(self) -> bool:
        """Return whether a loaded handler asks for operator events, or endpoints may get them."""
        return bool(self._handlers) or self._to_endpoints

    async def hand_over(self) -> int:
        """Store a job for each event that a handler or an endpoint has not got yet; return how many."""
        of_endpoints = await self._endpoints() if self._to_endpoints else []
        return await self.events.hand_over([*self._handlers, *of_endpoints], now=self.clock.now())

    async def _endpoints(self) -> list[OperatorSubscriber]:
        found = await self.events.subscribed_endpoints()
        return [
            OperatorSubscriber(
                name=f"endpoint/{each.id}",  # no name of a handler contains a slash
                types=operator_types_of(each.events),
                endpoint_id=each.id,
                since=each.created_at,
            )
            for each in found
            if self.is_admin(each.client)
        ]

    async def prune(self) -> int:
        """Delete old events; return how many."""
        return await self.events.prune(before=self.clock.now() - KEPT_FOR)
