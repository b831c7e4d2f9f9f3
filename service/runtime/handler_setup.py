"""What follows from the loaded handlers: what `notify` may contain, and what their tools are made of."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

from service.deliveries.circuit_board import CircuitBoard
from service.deliveries.error_text import SecretMask
from service.deliveries.handler_api import Handler
from service.deliveries.handler_controls import HandlerControls
from service.deliveries.handler_jobs import JobRunner
from service.deliveries.handler_loader import handler_schedules, not_loaded
from service.deliveries.handler_retention import HandlerRetention
from service.deliveries.handler_slots import HandlerSlots
from service.deliveries.handler_tools import HandlerPorts, ToolsFactory
from service.deliveries.notify_options import options_check, secret_options
from service.domain.circuit import CircuitLimits
from service.domain.key_ring import KeyRing
from service.domain.notify import NotifyRules
from service.domain.ports.signals import Clock
from service.runtime.config.settings import Settings
from service.storage import Store
from service.tasks.secret_sealer import SecretSealer
from service.tasks.task_service import TaskService
from service.tasks.waiting_notes import WaitingNotes


def client_handlers(settings: Settings, handlers: Iterable[Handler]) -> frozenset[str]:
    """Return the names that `notify` of a client may use: a handler's former names count like its own.

    By default they are those of the handlers that are made for it.
    """
    given = settings.notify_handlers
    allowed = [each for each in handlers if (each.for_clients if given is None else {*given} & {*each.names})]
    return frozenset(name for handler in allowed for name in handler.names)


def handler_slots(settings: Settings, handlers: Mapping[str, Handler], store: Store, clock: Clock) -> HandlerSlots:
    """Return the slots of the handlers, with the circuits of the destinations.

    A delivery waits for a circuit as long as its whole schedule lasts.
    """
    schedules = handler_schedules(handlers, settings.retry_schedules)

    def max_wait(handler: Handler) -> timedelta:
        return sum(schedules.get(handler.name, settings.retry_schedule), timedelta())

    limits = CircuitLimits(opens_after=settings.circuit_failures, max_pause=settings.circuit_max_pause)
    return HandlerSlots(
        handlers.values(),
        lease=settings.lease,
        notify=lambda: store.signals.notify("dispatch"),
        circuits=CircuitBoard(handlers=handlers.values(), clock=clock, max_wait=max_wait, limits=limits),
        destination_rate=settings.notify_rate,
    )


def handler_controls(store: Store, slots: HandlerSlots, clock: Clock) -> HandlerControls:
    """Return what lets the slots obey the pauses and circuits of the database."""
    return HandlerControls(pauses=store.handler_pauses, circuits=store.circuits, slots=slots, clock=clock)


def notify_rules(settings: Settings, handlers: Iterable[Handler]) -> NotifyRules:
    """Return what the loaded `handlers` declare about their entries, and what those that are not loaded lack."""
    declared = {name: handler.options for handler in handlers for name in handler.names}
    return NotifyRules(
        options={name: options_check(model) for name, model in declared.items() if model},
        not_loaded=not_loaded(settings.handlers, settings.present),
    )


def secret_sealer(
    store: Store,
    keys: KeyRing,
    handlers: Iterable[Handler],
    *,
    new_id: Callable[[], str],
    registered: Callable[[], bool],
) -> SecretSealer:
    """Return what seals the secrets of `notify` entries: those of webhooks, and those that the `handlers` declare."""
    declared = {name: secret_options(each.options) for each in handlers if each.options for name in each.names}
    return SecretSealer(store=store.sealed_secrets, keys=keys, new_id=new_id, registered=registered, declared=declared)


def handler_ports(
    store: Store, task_service: TaskService, notes: WaitingNotes, new_id: Callable[[], str]
) -> HandlerPorts:
    """Return what the tools of all handlers are made of."""
    return HandlerPorts(
        state=store.handler_state,
        jobs=store.handler_jobs,
        tasks=task_service,
        reader=store.queries,
        notes=notes,
        new_id=new_id,
    )


def job_runner(
    settings: Settings,
    store: Store,
    handlers: Iterable[Handler],
    tools: ToolsFactory,
    mask: SecretMask,
    *,
    clock: Clock,
    jitter: Callable[[], float],
) -> JobRunner:
    """Return what runs the jobs of the loaded `handlers`."""
    return JobRunner(
        handlers=handlers,
        store=store.handler_jobs,
        tools=tools.for_handler,
        clock=clock,
        lease=settings.lease,
        signals=store.signals,
        jitter=jitter,
        mask=mask,
    )


def handler_retention(settings: Settings, store: Store, clock: Clock) -> HandlerRetention:
    """Return what deletes rows of handlers that are no longer needed."""
    return HandlerRetention(
        state=store.handler_state, jobs=store.handler_jobs, clock=clock, retention=settings.retention
    )
