"""Build the worker of a process for tests."""

from datetime import timedelta

from service.deliveries.dispatcher import Dispatcher
from service.deliveries.handler_api import Handler
from service.deliveries.handler_controls import HandlerControls
from service.deliveries.handler_jobs import JobRunner
from service.deliveries.handler_retention import HandlerRetention
from service.deliveries.handler_slots import HandlerSlots
from service.deliveries.missing_handlers import MissingHandlerMonitor
from service.deliveries.operator_handlers import OperatorEventQueue
from service.domain.provider_key import KeyAnswers
from service.domain.submission_limits import Limits
from service.runtime.clock_jump import ClockJumpDetector
from service.runtime.operator_events import OperatorEventJobs
from service.runtime.worker import Worker
from service.tasks.key_watch import KeyWatch
from service.tasks.operator_watch import OperatorWatch
from service.tasks.progress_polls import ProgressPolls
from service.tasks.secret_resealing import SecretResealing
from service.tasks.watched_tasks import TaskWatch
from tests.support.delivery_builders import handler, tools
from tests.support.endpoint_builders import endpoint_use_cases
from tests.support.task_loop import LEASE, Loop


def build_dispatcher(loop: Loop, slots: HandlerSlots | None = None) -> Dispatcher:
    """Return a dispatcher over the deliveries of `loop`, with its slots or others, that attempts each delivery once."""
    return Dispatcher(
        queue=loop.store.deliveries,
        slots=slots or loop.slots,
        tools=lambda _claim, _handler: tools(),
        clock=loop.clock,
        schedule=(timedelta(),),
        jitter=lambda: 0.0,
    )


def build_worker(loop: Loop, seen: list[str], only: Handler | None = None) -> Worker:
    """Return a worker over `loop` with `only` one handler; the default handler appends event types to `seen`."""

    async def note_type(event: object, _tools: object) -> None:
        seen.append(getattr(event, "type", ""))

    one = only or handler("log", note_type)
    slots = HandlerSlots([one], lease=LEASE, notify=lambda: loop.store.signals.notify("dispatch"))
    dispatcher = build_dispatcher(loop, slots)
    watched = loop.store.watched_tasks
    endpoints = endpoint_use_cases(loop.store, loop.clock)
    return Worker(
        progress=ProgressPolls(
            watched=watched,
            submitter=loop.submitter,
            poller=loop.poller,
            provider=loop.rate_limited,
            clock=loop.clock,
            every=timedelta(seconds=5),
        ),
        watch=TaskWatch(store=watched, clock=loop.clock),
        inbox_worker=loop.inbox_worker,
        refusals=loop.receiver.refusals,
        submitter=loop.submitter,
        poller=loop.poller,
        dispatcher=dispatcher,
        handler_jobs=JobRunner(
            handlers=[only] if only else [],
            store=loop.store.handler_jobs,
            tools=lambda _handler: tools(),
            clock=loop.clock,
            lease=LEASE,
            signals=loop.store.signals,
            jitter=lambda: 0.0,
        ),
        handler_retention=HandlerRetention(
            state=loop.store.handler_state,
            jobs=loop.store.handler_jobs,
            clock=loop.clock,
            retention=timedelta(days=30),
        ),
        search_index=loop.store.search_index,
        provider=loop.rate_limited,
        clock_jumps=ClockJumpDetector(loop.store.clock_jump_repair, clock=loop.clock, lease=LEASE),
        operator_events=OperatorEventJobs(
            watch=OperatorWatch(
                events=loop.store.operator_events,
                spending=loop.store.tasks,
                stats=loop.store.run_time_stats,
                requests=dict,
                clock=loop.clock,
                limits=Limits(),
                callbacks=False,
            ),
            key=KeyWatch(answers=KeyAnswers(), rejections=loop.store.key_rejections, clock=loop.clock),
            queue=OperatorEventQueue(
                handlers=[only] if only else [], events=loop.store.operator_events, clock=loop.clock
            ),
        ),
        controls=HandlerControls(
            pauses=loop.store.handler_pauses,
            circuits=loop.store.circuits,
            slots=dispatcher.slots,
            clock=loop.clock,
        ),
        missing_handlers=MissingHandlerMonitor(loop.store.deliveries, []),
        endpoints=endpoints.service,
        resealing=SecretResealing(
            endpoints=endpoints.service,
            rows=loop.store.sealed_secrets,
            secrets=endpoints.service.sealer,
            clock=loop.clock,
        ),
    )
