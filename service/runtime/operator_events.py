"""Connects operator events: what looks for them, and what hands them to handlers."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from service.deliveries.endpoint_operator_events import EndpointOperatorEvents
from service.deliveries.handler_api import Handler
from service.deliveries.operator_handlers import OperatorEventQueue
from service.domain.event_routing import WEBHOOK
from service.domain.ports.operator_events import OPERATOR_EVENTS
from service.domain.ports.signals import Clock
from service.providers import RateLimitedClient
from service.runtime.config.settings import Settings
from service.runtime.delivery_parts import DeliveryParts, admins_of
from service.runtime.limits import limits_of
from service.runtime.scheduler import PeriodicJob
from service.storage import Store
from service.tasks.key_watch import KeyWatch
from service.tasks.operator_watch import OperatorWatch


@dataclass(kw_only=True, slots=True)
class OperatorEventJobs:
    """The jobs of operator events."""

    watch: OperatorWatch
    key: KeyWatch
    queue: OperatorEventQueue

    def key_job(self) -> PeriodicJob:
        """Return the job that stores what the provider says of our key: each process that asks the provider has it."""
        return PeriodicJob(name="key_watch", run=self.key.check, every=timedelta(seconds=5), repeat=False)

    def jobs(self) -> list[PeriodicJob]:
        """Return the jobs that look for conditions, and the one that hands events to handlers, if one asks for them."""
        seldom, often = timedelta(minutes=1), timedelta(seconds=5)
        looking = [
            PeriodicJob(name="operator_watch", run=self.watch.check, every=seldom, repeat=False),
            self.key_job(),
        ]
        if not self.queue.needed:
            return looking
        return [
            *looking,
            PeriodicJob(name=OPERATOR_EVENTS, run=self.queue.hand_over, every=often, topic=OPERATOR_EVENTS),
        ]


def operator_event_jobs(
    settings: Settings, store: Store, handlers: Iterable[Handler], upstream: RateLimitedClient, clock: Clock
) -> OperatorEventJobs:
    """Return the jobs; the parameters are parts of the application."""
    watch = OperatorWatch(
        events=store.operator_events,
        spending=store.tasks,
        stats=store.run_time_stats,
        requests=lambda: upstream.requests,
        clock=clock,
        limits=limits_of(settings),
        callbacks=settings.public_url is not None,
    )
    return OperatorEventJobs(
        watch=watch,
        key=KeyWatch(answers=upstream.key_answers, rejections=store.key_rejections, clock=clock),
        queue=OperatorEventQueue(
            handlers=handlers, events=store.operator_events, clock=clock, is_admin=admins_of(settings)
        ),
    )


def with_endpoint_events(handlers: Iterable[Handler], parts: DeliveryParts, settings: Settings) -> list[Handler]:
    """Return the handlers; that of webhooks has the job that posts operator events to endpoints."""
    events = EndpointOperatorEvents(
        tools=parts.tools, endpoints=parts.targets.endpoints, targets=parts.targets, is_admin=admins_of(settings)
    )
    return [events.added_to(each) if WEBHOOK in each.names else each for each in handlers]
