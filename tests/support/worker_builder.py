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

    dispatcher = Dispatcher(
        queue=loop.store.deliveries,
        slots=HandlerSlots(
            [only or handler("log", hear)], lease=LEASE, notify=lambda: loop.store.signals.notify("dispatch")
        ),
        tools=lambda _claim, _handler: tools(),
        clock=loop.clock,
        schedule=(timedelta(),),
        jitter=lambda: 0.0,
    )
    return Worker(
        inbox_worker=loop.inbox_worker,
        submitter=loop.submitter,
        poller=loop.poller,
        dispatcher=dispatcher,
        full=SinglePass(
            inbox_worker=loop.inbox_worker,
            submitter=loop.submitter,
            poller=loop.poller,
            dispatcher=dispatcher,
            upstream=loop.rate_limited,
        ),
        clock_jumps=ClockJumpDetector(loop.store.clock_jump_repair, clock=loop.clock, lease=LEASE),
        missing_handlers=MissingHandlerMonitor(loop.store.deliveries, []),
    )
