"""The service's own figures as Prometheus text."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from service.domain.ports.health import Gauges
from service.domain.task import Status

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
LABELS = {"callbacks": "verdict", "polls": "outcome"}
"""What the label of a counter is called; `kind` for others."""

Counters = Mapping[str, Mapping[str, int]]
"""Counts of this process by name (without prefix and `_total`), and for each by the value of its label."""


def exposition(gauges: Gauges, counters: Counters) -> bytes:
    """Return the metrics page for one reading of the database and the counters of this process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(gauges=gauges, counters=counters))
    return generate_latest(registry)


@dataclass(frozen=True, kw_only=True, eq=False)  # a registry knows its collectors by identity
class MetricsCollector(Collector):
    """A collector of what was read for one scrape."""

    gauges: Gauges
    counters: Counters

    def collect(self) -> Iterator[Metric]:
        """Return every metric of the reading."""
        gauges = self.gauges
        tasks = {status.value: 0 for status in Status} | dict(gauges.tasks)
        yield _by_label(GaugeMetricFamily, "tasks", "Tasks by status.", "status", tasks)
        yield _by_label(GaugeMetricFamily, "deliveries", "Deliveries by status.", "status", gauges.deliveries)
        yield self._attempts()
        yield _plain("oldest_unsettled_task_seconds", "Age of the oldest unsettled task.", self._unsettled)
        yield _plain("oldest_due_row_seconds", "How long the oldest due row waits unclaimed.", self._due)
        yield _plain("in_doubt_tasks", "Tasks whose submission got no reply.", gauges.in_doubt)
        for name, counts in self._totals().items():
            yield _by_label(CounterMetricFamily, name, f"{name.capitalize()} so far.", LABELS.get(name, "kind"), counts)

    @property
    def _unsettled(self) -> float:
        return self.gauges.oldest_unsettled.total_seconds()

    @property
    def _due(self) -> float:
        return self.gauges.oldest_due.total_seconds()

    def _attempts(self) -> Metric:
        family = GaugeMetricFamily("boomerang_attempts", "Stored attempts.", labels=["handler", "outcome"])
        for (handler, outcome), count in self.gauges.attempts.items():
            family.add_metric([handler, outcome], count)
        return family

    def _totals(self) -> dict[str, dict[str, int]]:
        """Return the counters, those of the database and of this process added up by label."""
        totals: dict[str, dict[str, int]] = {"callbacks": dict(self.gauges.callbacks), "polls": {}}
        for name, counts in self.counters.items():
            total = totals.setdefault(name, {})
            for label, count in counts.items():
                total[label] = total.get(label, 0) + count
        return totals


def _plain(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"boomerang_{name}", about, value=value)


def _by_label(
    family: type[GaugeMetricFamily] | type[CounterMetricFamily],
    name: str,
    about: str,
    label: str,
    counts: Mapping[str, int],
) -> Metric:
    metric = family(f"boomerang_{name}", about, labels=[label])
    for value, count in counts.items():
        metric.add_metric([value], count)
    return metric
