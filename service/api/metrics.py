"""The metrics of the service as Prometheus text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from service.domain.ports.health import Gauges
from service.domain.task import Status

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
LABELS = {"callbacks": "verdict", "polls": "outcome", "cost_faults": "fault"}
"""The label of each counter by its name; `kind` for other counters."""

HELP = {
    "callbacks": "Callbacks in the inbox, by verdict.",
    "polls": "Polls by outcome.",
    "upstream_requests": "Requests to the provider, by kind and outcome.",
    "credit_refusals": "Submissions that the provider refused for want of credit, and ends of the pause after it.",
    "cost_faults": "Costs that the provider reported and that cannot be right, by fault.",
}

Counters = Mapping[str, Mapping[str, int]]
"""Counters of this process: by name, without prefix and `_total`, and then by the value of the label."""


def exposition(gauges: Gauges, counters: Counters) -> bytes:
    """Return the metrics page for the gauges of the database and the counters of this process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(gauges=gauges, counters=counters))
    return generate_latest(registry)


@dataclass(frozen=True, kw_only=True, eq=False)  # a registry compares its collectors by identity
class MetricsCollector(Collector):
    """A collector for the values of one scrape."""

    gauges: Gauges
    counters: Counters

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        gauges = self.gauges
        tasks = {status.value: 0 for status in Status} | dict(gauges.tasks)
        yield _by_label(GaugeMetricFamily, "tasks", "Tasks by status.", "status", tasks)
        yield _by_label(GaugeMetricFamily, "deliveries", "Deliveries by status.", "status", gauges.deliveries)
        attempts = GaugeMetricFamily("boomerang_attempts", "Stored attempts.", labels=["handler", "outcome"])
        for (handler, outcome), count in gauges.attempts.items():
            attempts.add_metric([handler, outcome], count)
        yield attempts
        unsettled, due = gauges.oldest_unsettled.total_seconds(), gauges.oldest_due.total_seconds()
        yield _plain("oldest_unsettled_task_seconds", "Age of the oldest unsettled task.", unsettled)
        yield _plain("oldest_due_row_seconds", "How long the oldest due row waits unclaimed.", due)
        yield _plain("in_doubt_tasks", "Tasks whose submission got no reply.", gauges.in_doubt)
        words = {word: age.total_seconds() for word, age in gauges.status_words.items()}
        text = "How long the provider has reported a status word of unknown meaning."
        yield _by_label(GaugeMetricFamily, "unknown_status_seconds", text, "word", words)
        costs = "Reported cost of the submissions of this UTC day, in US dollars, by client."
        yield _by_label(GaugeMetricFamily, "day_cost_dollars", costs, "client", gauges.day_costs)
        for name, counts in self._totals().items():
            yield _by_label(
                CounterMetricFamily, name, HELP.get(name, f"Number of {name}."), LABELS.get(name, "kind"), counts
            )

    def _totals(self) -> dict[str, dict[str, int]]:
        """Return the sums of the counters of the database and of this process, by label."""
        totals: dict[str, dict[str, int]] = {"callbacks": dict(self.gauges.callbacks), "polls": {}}
        for name, counts in self.counters.items():
            total = totals.setdefault(name, {})
            for label, count in counts.items():
                total[label] = total.get(label, 0) + count
        return totals


def _plain(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"boomerang_{name}", documentation, value=value)


def _by_label(
    family: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    documentation: str,
    label: str,
    counts: Mapping[str, float],
) -> Metric:
    metric = family(f"boomerang_{name}", documentation, labels=[label])
    for value, count in counts.items():
        metric.add_metric([value], count)
    return metric
