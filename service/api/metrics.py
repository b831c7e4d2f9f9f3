"""The metrics of the service as Prometheus text.

Counters and histograms are those of this process since its start; counters end in `_total`. Gauges are figures of the
database, the same in each process, except the build information and whether the database answers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from service.domain.duration_histogram import Histograms
from service.domain.ports.health import Gauges
from service.domain.task import Status

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
DISTRIBUTION = "boomerang-service"

MAX_NAMES = 50
"""Clients, and handlers, with series of their own; the others are added up as `other`."""

OTHER = "other"

COUNTERS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "callbacks": (
        ("verdict",),
        "Callbacks that were answered, by verdict. Those refused are also in callbacks_refused.",
    ),
    "callbacks_refused": (("reason",), "Callbacks and probes of callback addresses that were refused, by reason."),
    "polls": (("outcome",), "Polls by outcome."),
    "provider_requests": (("kind", "outcome"), "Requests to the provider, by kind and outcome."),
    "upstream_requests": (("kind",), "Deprecated, see provider_requests: its two labels as one."),
    "credit_refusals": (
        ("kind",),
        "Submissions that the provider refused for want of credit, and ends of the pause after it.",
    ),
    "cost_faults": (("fault",), "Costs that the provider reported and that cannot be right, by fault."),
    "log_lines_dropped": (
        ("reason",),
        "Lines of output that were lost: full while the reader stalled, failed where a write failed.",
    ),
}
"""The labels of each counter and its help, by its name without prefix and `_total`."""

HISTOGRAMS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "wait_before_start_seconds": ((), "From the creation of a task to the submission that the provider accepted."),
    "time_to_settle_seconds": (("status",), "From the creation of a task to its end, by status."),
    "time_to_deliver_seconds": (
        ("handler",),
        "From an event to its successful delivery, replays included, by handler.",
    ),
}

OF_PROCESS = " (this process, since its start)"
OF_DATABASE = " (from the database, the same in each process)"

Counters = Mapping[str, Mapping[str, int] | Mapping[tuple[str, ...], int]]
"""Counters of this process: by name, without prefix and `_total`, and then by the values of the labels."""


def exposition(gauges: Gauges | None, counters: Counters, histograms: Histograms | None = None) -> bytes:
    """Return the metrics page for the gauges of the database and the figures of this process.

    Without `gauges` the database does not answer; the figures of the process are shown all the same.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(gauges=gauges, counters=counters, histograms=histograms or {}))
    return generate_latest(registry)


@cache
def installed_version() -> str:
    """Return the version of the installed distribution, `unknown` where none is installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True, kw_only=True, eq=False)  # a registry compares its collectors by identity
class MetricsCollector(Collector):
    """A collector for the values of one scrape."""

    gauges: Gauges | None
    counters: Counters
    histograms: Histograms = field(default_factory=dict)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        build = "Always 1; the label has the version of this process."
        yield _gauge("build_info", build, ("version",), {(installed_version(),): 1.0})
        yield _gauge("database_up", "Whether the database answered this scrape.", (), {(): float(bool(self.gauges))})
        if self.gauges:
            yield from _of_database(self.gauges)
        for name in sorted({*COUNTERS, *self.counters}):
            labels, text = COUNTERS.get(name, (("kind",), f"Number of {name}."))
            counter = CounterMetricFamily(f"boomerang_{name}", text + OF_PROCESS, labels=labels)
            for values, count in sorted(_by_labels(self.counters.get(name, {})).items()):
                counter.add_metric(values, count)
            yield counter
        yield from _histograms(self.histograms)


def _of_database(gauges: Gauges) -> Iterator[Metric]:
    """Yield the figures of the database."""
    tasks = {status.value: 0 for status in Status} | dict(gauges.tasks)
    yield _database_gauge("tasks", "Tasks by status.", "status", tasks)
    yield _database_gauge("deliveries", "Deliveries by status.", "status", gauges.deliveries)
    yield _database_gauge("endpoints", "Endpoints by state.", "state", gauges.endpoints)
    yield _database_gauge("dead_letters", "Dead letters by handler.", "handler", _folded(gauges.dead_letters))
    circuits = {"open": 0, "busy": 0} | dict(gauges.circuits)
    yield _database_gauge("circuits", "Destinations that fail (open) or have asked to wait (busy).", "state", circuits)
    faults = {"destination": 0, "ours": 0} | dict(gauges.dead_faults)
    yield _database_gauge("dead_letters_by_fault", "Dead letters by the responsible party.", "fault", faults)
    yield _database_gauge(
        "inbox_callbacks", "Stored callbacks by verdict; RETENTION deletes them.", "verdict", gauges.callbacks
    )
    text = "Stored attempts by handler and outcome; RETENTION deletes them."
    yield _gauge("attempts", text + OF_DATABASE, ("handler", "outcome"), _folded_attempts(gauges.attempts))
    unsettled, due = gauges.oldest_unsettled.total_seconds(), gauges.oldest_due.total_seconds()
    yield _database_gauge("oldest_unsettled_task_seconds", "Age of the oldest unsettled task.", None, {"": unsettled})
    yield _database_gauge("oldest_due_row_seconds", "How long the oldest due row waits unclaimed.", None, {"": due})
    yield _database_gauge("in_doubt_tasks", "Tasks whose submission got no reply.", None, {"": gauges.in_doubt})
    words = {word: age.total_seconds() for word, age in gauges.status_words.items()}
    text = "How long the provider has reported a status word of unknown meaning."
    yield _database_gauge("unknown_status_seconds", text, "word", words)
    text = "Reported cost of the submissions of this UTC day, in US dollars, by client."
    yield _database_gauge("day_cost_dollars", text, "client", _folded(gauges.day_costs))
    text = "What counts for the budgets of this UTC day, in US dollars, by client: day_cost and prices of other tasks."
    yield _database_gauge("day_spend_dollars", text, "client", _folded(gauges.spent))


def _database_gauge(name: str, text: str, label: str | None, values: Mapping[str, float]) -> Metric:
    labels = (label,) if label else ()
    return _gauge(name, text + OF_DATABASE, labels, {(key,) if label else (): value for key, value in values.items()})


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]) -> Metric:
    metric = GaugeMetricFamily(f"boomerang_{name}", text, labels=labels)
    for key, value in sorted(_by_labels(values).items()):
        metric.add_metric(key, value)
    return metric


def _histograms(histograms: Histograms) -> Iterator[Metric]:
    for name, (labels, text) in HISTOGRAMS.items():
        metric = HistogramMetricFamily(f"boomerang_{name}", text + OF_PROCESS, labels=labels)
        for value, histogram in sorted(histograms.get(name, {}).items()):
            bounds = [*map(str, histogram.bounds), "+Inf"]
            buckets = list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))
            metric.add_metric((value,) if labels else (), buckets, histogram.total)
        yield metric


def _by_labels(values: Mapping[str, float] | Mapping[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Return values by label values that can be encoded; those that become equal are added."""
    found: dict[tuple[str, ...], float] = {}
    for key, value in values.items():
        texts = tuple(text.encode("utf-8", "replace").decode() for text in ((key,) if isinstance(key, str) else key))
        found[texts] = found.get(texts, 0) + value
    return found


def _folded(values: Mapping[str, float]) -> dict[str, float]:
    """Return the MAX_NAMES greatest values by name, and the sum of the others as OTHER."""
    kept, found = _kept(values), dict[str, float]()
    for name, value in values.items():
        key = name if name in kept else OTHER
        found[key] = found.get(key, 0) + value
    return found


def _folded_attempts(values: Mapping[tuple[str, str], float]) -> dict[tuple[str, ...], float]:
    """Return attempts by handler and outcome, the handlers with few attempts as OTHER."""
    of_handlers: dict[str, float] = {}
    for (handler, _), count in values.items():
        of_handlers[handler] = of_handlers.get(handler, 0) + count
    kept = _kept(of_handlers)
    found: dict[tuple[str, ...], float] = {}
    for (handler, outcome), count in values.items():
        key = (handler if handler in kept else OTHER, outcome)
        found[key] = found.get(key, 0) + count
    return found


def _kept(values: Mapping[str, float]) -> set[str]:
    return set(sorted(values, key=lambda name: (-values[name], name))[:MAX_NAMES])
