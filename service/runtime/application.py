"""The connected parts of a service, and what they report together: warnings, counters and histograms."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from service.artifacts.contents import Contents
from service.callbacks.receiver import CallbackReceiver
from service.deliveries.handler_api import Handler
from service.deliveries.handler_tools import ToolsFactory
from service.domain.duration_histogram import Histograms
from service.domain.link_tokens import LinkTokens
from service.domain.ports.signals import Clock
from service.providers import RateLimitedClient
from service.runtime.config.settings import Settings
from service.runtime.key_agreement import KeyAgreement
from service.runtime.output_writer import dropped_lines
from service.runtime.worker import Worker
from service.storage import Store
from service.tasks.recorder import Recorder
from service.tasks.task_service import TaskService
from service.tasks.waiting_notes import WaitingNotes


@dataclass(frozen=True, kw_only=True)
class Application:
    """The connected parts of a service that does not run yet."""

    settings: Settings
    clock: Clock
    store: Store
    upstream: RateLimitedClient
    handlers: Mapping[str, Handler]
    recorder: Recorder
    task_service: TaskService
    notes: WaitingNotes
    receiver: CallbackReceiver
    worker: Worker
    keys: KeyAgreement
    tools: ToolsFactory
    contents: Contents
    links: LinkTokens
    connection_warnings: Callable[[], Sequence[str]] = tuple

    def warnings(self) -> list[str]:
        """Return what an operator should know although the process is healthy."""
        return [*self.keys.warnings, *self.connection_warnings(), *self.worker.submitter.credit.warnings]

    def histograms(self) -> Histograms:
        """Return the histograms of this process for its metrics."""
        deliveries = {"time_to_deliver_seconds": self.worker.dispatcher.delivery_times}
        return {**self.recorder.task_times.histograms(), **deliveries}

    def counters(self) -> Mapping[str, Mapping[str, int] | Mapping[tuple[str, ...], int]]:
        """Return the counters of this process for its metrics."""
        requests: Counter[tuple[str, ...]] = Counter()
        joined: Counter[str] = Counter()
        for (kind, outcome), count in self.upstream.requests.items():
            requests[kind, outcome] += count
            joined[f"{kind}_{outcome}"] += count
        return {
            "polls": self.worker.poller.outcomes,
            "provider_requests": requests,
            "upstream_requests": joined,
            "cost_faults": self.recorder.cost_faults,
            "log_lines_dropped": dropped_lines(),
            "credit_refusals": self.worker.submitter.credit.counts,
        }
