"""Build the application from the settings: create the adapters and connect the use cases with them."""

import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from service.artifacts.contents import Contents
from service.callbacks.inbox_worker import InboxWorker
from service.callbacks.receiver import CallbackReceiver
from service.callbacks.refusals import Refusals
from service.deliveries.dispatcher import Dispatcher
from service.deliveries.egress_clients import EgressClients
from service.deliveries.error_text import SecretMask
from service.deliveries.handler_api import Handler
from service.deliveries.handler_loader import handler_schedules, load_handlers
from service.deliveries.handler_slots import HandlerSlots
from service.deliveries.handler_tools import ToolsFactory
from service.deliveries.missing_handlers import MissingHandlerMonitor
from service.deliveries.task_results import TaskResults
from service.domain.event_routing import Subscription
from service.domain.key_ring import KeyRing
from service.domain.link_tokens import LinkTokens
from service.domain.poll_planner import PollPlanner
from service.domain.ports.signals import Clock
from service.domain.tokens import Tokens
from service.providers import RateLimitedClient, served_models
from service.providers.callback_bodies import callback_reader
from service.runtime.application import Application
from service.runtime.archive import open_archive
from service.runtime.clock_jump import ClockJumpDetector
from service.runtime.config.settings import Settings
from service.runtime.delivery_parts import DeliveryParts, build_delivery_parts
from service.runtime.handler_settings import egress_settings, mask_logs, secret_mask
from service.runtime.handler_setup import (
    client_handlers,
    handler_controls,
    handler_ports,
    handler_retention,
    handler_slots,
    job_runner,
    notify_rules,
    secret_sealer,
)
from service.runtime.handler_tools import tools_factory
from service.runtime.key_agreement import KeyAgreement
from service.runtime.limits import limits_of, pricing_of
from service.runtime.operator_events import operator_event_jobs, with_endpoint_events
from service.runtime.outgoing_clients import open_outgoing_clients
from service.runtime.provider_parts import build_poller, build_progress_polls, build_submitter, poll_planner
from service.runtime.signature_check import signature_check
from service.runtime.system import SystemClock, uuid7_factory
from service.runtime.worker import Worker
from service.storage import Store, open_store
from service.tasks.immediate_polls import ImmediatePolls
from service.tasks.media_inspector import inspector
from service.tasks.recorder import Recorder
from service.tasks.secret_sealer import SecretSealer
from service.tasks.task_service import TaskPolicy, TaskService
from service.tasks.waiting_notes import WaitingNotes
from service.tasks.watched_tasks import TaskWatch


@asynccontextmanager
async def build_application(settings: Settings) -> AsyncIterator[Application]:
    """Yield an application for `settings`, which must contain signing keys; close its connections afterwards.

    Raises BadSetting or BadHandler for settings and handlers that cannot work.
    """
    clock = SystemClock()
    handlers = load_handlers(
        settings.handlers, settings.present, notify=settings.notify_handlers or (), schedules=settings.retry_schedules
    )
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            open_store(
                settings.database_url, connections=settings.database_pool, listen_url=settings.database_listen_url
            )
        )
        clients = await stack.enter_async_context(open_outgoing_clients(settings))
        builder = ApplicationBuilder(
            settings=settings, clock=clock, store=store, upstream=clients.upstream, handlers=handlers
        )
        application = replace(builder.build(clients.egress), connection_warnings=clients.warnings)
        stack.push_async_callback(application.tools.resources.close)
        yield application


@dataclass(kw_only=True)
class ApplicationBuilder:
    """Creates each use case from the settings and the adapters.

    `clock`, `jitter` (returns a number from 0 to 1) and `new_id` are parameters, so that a test can repeat a run.
    """

    settings: Settings
    clock: Clock
    store: Store
    upstream: RateLimitedClient
    handlers: Mapping[str, Handler]
    jitter: Callable[[], float] = random.random
    new_id: Callable[[], str] = field(default_factory=uuid7_factory)
    key_ring: KeyRing = field(init=False)
    tokens: Tokens = field(init=False)
    keys: KeyAgreement = field(init=False)
    clock_jumps: ClockJumpDetector = field(init=False)
    planner: PollPlanner = field(init=False)
    slots: HandlerSlots = field(init=False)
    immediate_polls: ImmediatePolls = field(init=False)
    recorder: Recorder = field(init=False)
    sealer: SecretSealer = field(init=False)
    refusals: Refusals = field(init=False)
    contents: Contents = field(init=False)
    links: LinkTokens = field(init=False)

    def __post_init__(self) -> None:
        self.refusals = Refusals(store=self.store.refusals, clock=self.clock)
        self.key_ring = KeyRing(self.settings.secret_keys)
        self.tokens = Tokens(self.key_ring)
        self.keys = KeyAgreement(
            key_ring=self.key_ring, registry=self.store.processes, clock=self.clock, process_id=self.new_id()
        )
        self.links = LinkTokens(self.key_ring, may_lack_keys=self.keys.may_lack_keys)
        self.contents = Contents(archive=open_archive(self.settings))
        self.sealer = secret_sealer(
            self.store, self.key_ring, self.handlers.values(), new_id=self.new_id, registered=self.keys.registered
        )
        jumps = ClockJumpDetector(self.store.clock_jump_repair, clock=self.clock, lease=self.settings.lease)
        self.planner = poll_planner(self.settings, self.upstream, jitter=self.jitter, clock_doubted=jumps.doubted)
        self.clock_jumps = jumps
        self.slots = handler_slots(self.settings, self.handlers, self.store, self.clock)
        self.immediate_polls = ImmediatePolls(lease=self.settings.lease)
        self.recorder = Recorder(
            units_of_work=self.store.units_of_work,
            clock=self.clock,
            planner=self.planner,
            slots=self.slots,
            immediate_polls=self.immediate_polls,
            subscriptions=[
                Subscription(name=each.name, events=each.events, by_request=each.by_request, former=each.aliases)
                for each in self.handlers.values()
            ],
            new_id=self.new_id,
            pricing=pricing_of(self.settings),
        )

    def build(self, egress_clients: EgressClients) -> Application:
        """Return the application; `egress_clients` connect to addresses that clients and the provider give."""
        inbox_worker, task_service, notes = self._inbox_worker(), self._task_service(), self._notes()
        tools = tools_factory(
            self.settings,
            self.clock,
            clients=egress_clients,
            contents=self.contents,
            links=self.links,
            results=TaskResults(
                queries=self.store.queries, upstream=self.upstream, recorder=self.recorder, files=self.contents
            ),
            ports=handler_ports(self.store, task_service, notes, self.new_id),
        )
        parts = self._delivery_parts(tools)
        return Application(
            settings=self.settings,
            clock=self.clock,
            store=self.store,
            upstream=self.upstream,
            handlers=self.handlers,
            recorder=self.recorder,
            task_service=task_service,
            notes=notes,
            tools=tools,
            receiver=self._receiver(inbox_worker),
            keys=self.keys,
            contents=self.contents,
            links=self.links,
            delivery_parts=parts,
            worker=self._worker(inbox_worker, parts),
        )

    def _worker(self, inbox_worker: InboxWorker, parts: DeliveryParts) -> Worker:
        submitter = build_submitter(
            self.settings, self.store, self.upstream, self.recorder, self.tokens, clock=self.clock, jitter=self.jitter
        )
        poller = build_poller(
            self.settings,
            self.store,
            self.upstream,
            self.recorder,
            self.planner,
            clock=self.clock,
            immediate_polls=self.immediate_polls,
        )
        handlers = with_endpoint_events(self.handlers.values(), parts, self.settings)
        mask = secret_mask(self.settings, handlers)
        mask_logs(mask)
        jobs = job_runner(self.settings, self.store, handlers, parts.tools, mask, clock=self.clock, jitter=self.jitter)
        return Worker(
            inbox_worker=inbox_worker,
            refusals=self.refusals,
            submitter=submitter,
            poller=poller,
            progress=build_progress_polls(
                self.settings, self.store, self.upstream, submitter, poller, clock=self.clock
            ),
            operator_events=operator_event_jobs(self.settings, self.store, handlers, self.upstream, self.clock),
            watch=TaskWatch(store=self.store.watched_tasks, clock=self.clock),
            endpoints=parts.endpoints,
            resealing=parts.resealing,
            dispatcher=self._dispatcher(parts, mask),
            handler_jobs=jobs,
            search_index=self.store.search_index,
            handler_retention=handler_retention(self.settings, self.store, self.clock),
            provider=self.upstream,
            clock_jumps=self.clock_jumps,
            controls=handler_controls(self.store, self.slots, self.clock),
            missing_handlers=MissingHandlerMonitor(self.store.deliveries, handlers),
        )

    def _notes(self) -> WaitingNotes:
        limits = limits_of(self.settings)
        return WaitingNotes(reader=self.store.tasks, provider=self.upstream, clock=self.clock, limits=limits)

    def _task_service(self) -> TaskService:
        return TaskService(
            intake=self.store.intake,
            blobs=self.store.blobs,
            queries=self.store.queries,
            recorder=self.recorder,
            provider=self.upstream,
            clock=self.clock,
            policy=TaskPolicy(
                provider=self.settings.provider,
                task_deadline=self.settings.task_deadline,
                off_peak_deadline=self.settings.off_peak_deadline,
                allow_off_peak=self.settings.allow_off_peak,
                allow_unchecked=self.settings.allow_unchecked_models,
                models=served_models(self.settings.provider) if self.settings.provider == "vidu" else None,
                handlers=frozenset(name for handler in self.handlers.values() for name in handler.names),
                client_handlers=client_handlers(self.settings, self.handlers.values()),
                refusal=egress_settings(self.settings).for_notify().refusal,
                rules=notify_rules(self.settings, self.handlers.values()),
            ),
            inspect=inspector(),
            new_id=self.new_id,
            sealer=self.sealer,
        )

    def _inbox_worker(self) -> InboxWorker:
        return InboxWorker(
            recorder=self.recorder,
            inbox=self.store.inbox,
            tokens=self.tokens,
            clock=self.clock,
            confirm=self.settings.confirm == "always",
            read_fact=callback_reader(self.settings.upstream_url, self.settings.upstream_key),
        )

    def _receiver(self, inbox_worker: InboxWorker) -> CallbackReceiver:
        return CallbackReceiver(
            recorder=self.recorder,
            inbox=self.store.inbox,
            inbox_worker=inbox_worker,
            tokens=self.tokens,
            clock=self.clock,
            confirm=self.settings.confirm == "always",
            read_fact=callback_reader(self.settings.upstream_url, self.settings.upstream_key),
            verifier_for=partial(signature_check, self.settings) if self.settings.provider == "vidu" else None,
            refusals=self.refusals,
            may_lack_keys=self.keys.may_lack_keys,
        )

    def _delivery_parts(self, tools: ToolsFactory) -> DeliveryParts:
        return build_delivery_parts(
            settings=self.settings,
            store=self.store,
            handlers=self.handlers,
            sealer=self.sealer,
            tools=tools,
            clock=self.clock,
            new_id=self.new_id,
        )

    def _dispatcher(self, parts: DeliveryParts, mask: SecretMask) -> Dispatcher:
        return Dispatcher(
            queue=self.store.deliveries,
            slots=self.slots,
            tools=parts.tools,
            clock=self.clock,
            schedule=self.settings.retry_schedule,
            schedules=handler_schedules(self.handlers, self.settings.retry_schedules),
            jitter=self.jitter,
            mask=mask,
            sealer=self.sealer,
            endpoints=parts.targets,
        )
