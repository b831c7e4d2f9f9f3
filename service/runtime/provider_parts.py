"""Builds the use cases that send requests to the provider: the submitter and the poller."""

from collections.abc import Callable

from service.domain.poll_planner import PollPlanner
from service.domain.ports.signals import Clock
from service.domain.tokens import Tokens
from service.providers import RateLimitedClient
from service.runtime.config.settings import Settings
from service.runtime.limits import limits_of
from service.storage import Store
from service.tasks.credit_watch import CreditWatch
from service.tasks.immediate_polls import ImmediatePolls
from service.tasks.poller import Poller, PollerConfig
from service.tasks.progress_polls import ProgressPolls
from service.tasks.recorder import Recorder
from service.tasks.submitter import Submitter, SubmitterConfig


def build_submitter(
    settings: Settings,
    store: Store,
    provider: RateLimitedClient,
    recorder: Recorder,
    tokens: Tokens,
    *,
    clock: Clock,
    jitter: Callable[[], float],
) -> Submitter:
    """Return what submits queued tasks; the parameters are parts of the application."""
    credit = CreditWatch(
        pauses=store.credit_pauses,
        clock=clock,
        provider=settings.provider,
        waits=settings.on_no_credit == "wait",
    )
    return Submitter(
        queue=store.tasks,
        blobs=store.blobs,
        recorder=recorder,
        provider=provider,
        tokens=tokens,
        clock=clock,
        signals=store.signals,
        config=SubmitterConfig(
            public_url=settings.public_url,
            lease=settings.lease,
            concurrency=settings.upstream_concurrency,
            limits=limits_of(settings),
        ),
        jitter=jitter,
        credit=credit,
    )


def build_poller(
    settings: Settings,
    store: Store,
    provider: RateLimitedClient,
    recorder: Recorder,
    planner: PollPlanner,
    *,
    clock: Clock,
    immediate_polls: ImmediatePolls,
) -> Poller:
    """Return what polls unfinished tasks; the parameters are parts of the application."""
    return Poller(
        queue=store.tasks,
        run_time_stats=store.run_time_stats,
        retention=store.retention,
        recorder=recorder,
        provider=provider,
        planner=planner,
        clock=clock,
        signals=store.signals,
        config=PollerConfig(
            lease=settings.lease,
            concurrency=settings.upstream_concurrency,
            resubmit_in_doubt=settings.on_in_doubt == "resubmit",
            retention=settings.retention,
        ),
        immediate_polls=immediate_polls,
    )


def poll_planner(
    settings: Settings,
    provider: RateLimitedClient,
    *,
    jitter: Callable[[], float],
    clock_doubted: Callable[[], bool],
) -> PollPlanner:
    """Return what decides when tasks are polled."""
    return PollPlanner(
        poll_first=settings.poll_first,
        poll_max=settings.poll_max,
        in_doubt_for=settings.in_doubt_for,
        retention=settings.retention,
        lists=provider.lists,
        jitter=jitter,
        clock_doubted=clock_doubted,
    )


def build_progress_polls(
    settings: Settings, store: Store, provider: RateLimitedClient, submitter: Submitter, poller: Poller, *, clock: Clock
) -> ProgressPolls:
    """Return what polls the tasks whose progress somebody watches."""
    return ProgressPolls(
        watched=store.watched_tasks,
        submitter=submitter,
        poller=poller,
        provider=provider,
        clock=clock,
        every=settings.progress_every,
    )
