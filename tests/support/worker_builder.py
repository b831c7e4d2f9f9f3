"""The rounds of a process, put together for tests."""

from datetime import timedelta

from service.deliveries.dispatcher import Dispatcher
from service.deliveries.handler_api import Handler
from service.deliveries.handler_slots import HandlerSlots
from service.deliveries.missing_handlers import MissingHandlerMonitor
from service.runtime.clock_jump import ClockJumpDetector
from service.runtime.single_pass import SinglePass
from service.runtime.worker import Worker
from tests.support.delivery_builders import handler, tools
from tests.support.task_loop import LEASE, Loop


def rounds_of(loop: Loop, seen: list[str], only: Handler | None = None) -> Worker:
    """Return the rounds over `loop`, with `only` one handler: by default it puts the types of events into `seen`."""

    async def hear(event: object, _tools: object) -> None:
        seen.append(getattr(event, "type", ""))

    dispatch = Dispatcher(
        loop.store.deliveries,
        HandlerSlots([only or handler("log", hear)], lease=LEASE, ring=lambda: loop.store.signals.ring("dispatch")),
        lambda _claim, _handler: tools(),
        loop.clock,
        schedule=(timedelta(),),
        jitter=lambda: 0.0,
    )
    return Worker(
        receive=loop.receive,
        submit=loop.submit,
        reconcile=loop.reconcile,
        dispatch=dispatch,
        full=SinglePass(
            receive=loop.receive,
            submit=loop.submit,
            reconcile=loop.reconcile,
            dispatch=dispatch,
            upstream=loop.paced,
        ),
        watch=ClockJumpDetector(loop.store.recall, clock=loop.clock, lease=LEASE),
        orphans=MissingHandlerMonitor(loop.store.deliveries, []),
    )
