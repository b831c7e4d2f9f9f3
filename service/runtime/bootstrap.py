"""Build the application from the settings: create the adapters and connect the use cases with them."""

import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import httpx

from service.callbacks.inbox_worker import InboxWorker
from service.callbacks.receiver import CallbackReceiver
from service.deliveries import egress_guard
from service.deliveries.dispatcher import Dispatcher
from service.deliveries.handler_api import Handler, Tools
from service.deliveries.handler_loader import load_handlers
from service.deliveries.handler_slots import HandlerSlots
from service.deliveries.missing_handlers import MissingHandlerMonitor
from service.deliveries.task_results import TaskResults
from service.domain.callback import Verifier, callback_address
from service.domain.event_routing import Subscription
from service.domain.poll_planner import PollPlanner
from service.domain.ports.queues import Limits
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.tokens import Tokens
from service.providers import PooledTransport, RateLimitedClient, open_provider
from service.providers.callback_bodies import read_fact
from service.providers.vidu.signature import ViduVerifier
from service.runtime.clock_jump import ClockJumpDetector
from service.runtime.config.settings import Settings
from service.runtime.system import SystemClock, uuid7_factory
from service.runtime.worker import Worker
from service.storage import Store, open_store
from service.tasks.immediate_polls import ImmediatePolls
from service.tasks.media_inspector import inspector
from service.tasks.poller import Poller, PollerConfig
from service.tasks.recorder import Recorder
from service.tasks.submitter import Submitter, SubmitterConfig
from service.tasks.task_service import TaskPolicy, TaskService


@dataclass(frozen=True, kw_only=True)
class Application:
    """The connected parts of a service that does not run yet."""

    settings: Settings
    clock: Clock
    store: Store
    upstream: RateLimitedClient
    handlers: Mapping[str, Handler]
    task_service: TaskService
    receiver: CallbackReceiver
    worker: Worker

    def counters(self) -> Mapping[str, Mapping[str, int]]:
        """Return the counters of this process for its metrics."""
        requests: Counter[str] = Counter()
        for (kind, outcome), count in self.upstream.requests.items():
            requests[f"{kind}_{outcome}"] += count
        return {"polls": self.worker.poller.outcomes, "upstream_requests": requests}


@asynccontextmanager
async def build_application(settings: Settings) -> AsyncIterator[Application]:
    """Yield an application for `settings`, which must contain signing keys; close its connections afterwards.

    Raises BadSetting or BadHandler for settings and handlers that cannot work.
    """
    clock = SystemClock()
    handlers = load_handlers(settings.handlers, settings.present)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(
            open_store(
                settings.database_url,
                connections=settings.database_pool,
                listen_url=settings.database_listen_url,
            )
        )
        upstream = await stack.enter_async_context(_provider(settings))
        egress_client = await stack.enter_async_context(egress_guard.client(egress_guard.Egress(settings.egress_allow)))
        builder = ApplicationBuilder(settings=settings, clock=clock, store=store, upstream=upstream, handlers=handlers)
        yield builder.build(egress_client)


@asynccontextmanager
async def _provider(settings: Settings) -> AsyncIterator[RateLimitedClient]:
    async with httpx.AsyncClient(transport=PooledTransport(), trust_env=False, follow_redirects=False) as client:
        yield open_provider(
            settings.provider,
            client=client,
            base_url=settings.upstream_url,
            key=settings.upstream_key or "",
            rate=settings.upstream_rate,
            concurrency=settings.upstream_concurrency,
        )


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
    tokens: Tokens = field(init=False)
    planner: PollPlanner = field(init=False)
    slots: HandlerSlots = field(init=False)
    immediate_polls: ImmediatePolls = field(init=False)
    recorder: Recorder = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = Tokens(self.settings.secret_keys)
        self.planner = PollPlanner(
            poll_first=self.settings.poll_first,
            poll_max=self.settings.poll_max,
            in_doubt_for=self.settings.in_doubt_for,
            retention=self.settings.retention,
            lists=self.upstream.lists,
            jitter=self.jitter,
        )
        self.slots = HandlerSlots(
            self.handlers.values(), lease=self.settings.lease, notify=lambda: self.store.signals.notify("dispatch")
        )
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
        )

    def build(self, egress_client: httpx.AsyncClient) -> Application:
        """Return the application; `egress_client` connects to addresses that clients and the provider give."""
        inbox_worker = self._inbox_worker()
        return Application(
            settings=self.settings,
            clock=self.clock,
            store=self.store,
            upstream=self.upstream,
            handlers=self.handlers,
            task_service=self._task_service(),
            receiver=self._receiver(inbox_worker),
            worker=Worker(
                inbox_worker=inbox_worker,
                submitter=self._submitter(),
                poller=self._poller(),
                dispatcher=self._dispatcher(egress_client),
                provider=self.upstream,
                clock_jumps=ClockJumpDetector(
                    self.store.clock_jump_repair, clock=self.clock, lease=self.settings.lease
                ),
                missing_handlers=MissingHandlerMonitor(self.store.deliveries, self.handlers.values()),
            ),
        )

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
                handlers=frozenset(name for handler in self.handlers.values() for name in handler.names),
                refusal=egress_guard.Egress(self.settings.egress_allow).refusal,
            ),
            inspect=inspector(),
            new_id=self.new_id,
        )

    def _inbox_worker(self) -> InboxWorker:
        return InboxWorker(
            recorder=self.recorder,
            inbox=self.store.inbox,
            tokens=self.tokens,
            clock=self.clock,
            confirm=self.settings.confirm == "always",
            read_fact=read_fact,
        )

    def _receiver(self, inbox_worker: InboxWorker) -> CallbackReceiver:
        return CallbackReceiver(
            recorder=self.recorder,
            inbox=self.store.inbox,
            inbox_worker=inbox_worker,
            tokens=self.tokens,
            clock=self.clock,
            confirm=self.settings.confirm == "always",
            read_fact=read_fact,
            verifier_for=self._verifier if self.settings.provider == "vidu" else None,
        )

    def _verifier(self, token: str) -> Verifier:
        """Return the check of Vidu's signature, which covers the callback address; Vtrix has no key to sign with."""
        address = callback_address(self.settings.public_url or "", token)
        return ViduVerifier([self.settings.upstream_key or ""], address)

    def _submitter(self) -> Submitter:
        budget = self.settings.budget
        limits = Limits(max_in_flight=self.settings.max_in_flight, budget=None if budget is None else float(budget))
        return Submitter(
            queue=self.store.tasks,
            blobs=self.store.blobs,
            recorder=self.recorder,
            provider=self.upstream,
            tokens=self.tokens,
            clock=self.clock,
            signals=self.store.signals,
            config=SubmitterConfig(
                public_url=self.settings.public_url,
                lease=self.settings.lease,
                concurrency=self.settings.upstream_concurrency,
                limits=limits,
            ),
            jitter=self.jitter,
        )

    def _poller(self) -> Poller:
        return Poller(
            queue=self.store.tasks,
            run_time_stats=self.store.run_time_stats,
            retention=self.store.retention,
            recorder=self.recorder,
            provider=self.upstream,
            planner=self.planner,
            tokens=self.tokens,
            clock=self.clock,
            signals=self.store.signals,
            config=PollerConfig(
                lease=self.settings.lease,
                concurrency=self.settings.upstream_concurrency,
                resubmit_in_doubt=self.settings.on_in_doubt == "resubmit",
                retention=self.settings.retention,
            ),
            immediate_polls=self.immediate_polls,
        )

    def _dispatcher(self, egress_client: httpx.AsyncClient) -> Dispatcher:
        results = TaskResults(queries=self.store.queries, upstream=self.upstream, recorder=self.recorder)

        def tools(claim: DeliveryClaim, handler: Handler) -> Tools:
            return Tools(
                http=egress_client,
                log=logging.getLogger(f"boomerang.handlers.{handler.name}"),
                results=results,
                now=self.clock.now,
                settings=self.settings.present,
                target=claim.target,
                message_id=claim.message_id,
                attempt=claim.attempt,
            )

        return Dispatcher(
            queue=self.store.deliveries,
            slots=self.slots,
            tools=tools,
            clock=self.clock,
            schedule=self.settings.retry_schedule,
            jitter=self.jitter,
        )
