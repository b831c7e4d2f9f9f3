"""Metric names, label names and label values: dashboards and alerts depend on them."""

from collections import defaultdict

from prometheus_client.parser import text_string_to_metric_families

from tests.unit.frozen.provider import Json
from tests.unit.frozen.snapshots import assert_words

STATUSES = {"queued", "submitting", "in_progress", "completed", "failed", "canceled", "in_doubt", "expired"}
CREATES = {"create_ok", "create_reply_lost", "create_never_left", "create_refused"}
FETCHES = {"fetch_ok", "fetch_unwell", "fetch_refused", "fetch_unknown_task", "fetch_throttled"}
CANCELS = {"cancel_ok", "cancel_conflict", "cancel_unknown_task", "cancel_unwell", "cancel_throttled"}
STORED = {"accepted", "unreadable", "quarantined", "broken"}
REFUSED = {"bad_token", "bad_signature", "refused_unreadable", "body_too_large"}
OUTCOMES = {"unwell", "refused", "unknown", "throttled", "foreign", "broken off", "not found", "none"}
ANSWERS = {"completed", "failed", "canceled", "in_progress"}
VALUES = {
    "boomerang_tasks": {("status", word) for word in STATUSES},
    "boomerang_deliveries": {("status", word) for word in ("pending", "delivered", "dead")},
    "boomerang_attempts": {("outcome", word) for word in ("delivered", "retry", "dead")}
    | {("handler", name) for name in ("failing", "later", "log", "rejecting")},
    "boomerang_oldest_unsettled_task_seconds": set(),
    "boomerang_oldest_due_row_seconds": set(),
    "boomerang_in_doubt_tasks": set(),
    "boomerang_unknown_status_seconds": {("word", "warming_up")},
    "boomerang_day_cost_dollars": {("client", "root")},
    "boomerang_callbacks_total": {("verdict", word) for word in STORED | REFUSED},
    "boomerang_polls_total": {("outcome", word) for word in OUTCOMES | ANSWERS},
    "boomerang_upstream_requests_total": {("kind", word) for word in CREATES | FETCHES | CANCELS | {"find_ok"}},
}


def labels(text: str) -> dict[str, set[tuple[str, str]]]:
    """Return each metric of an exposition with its labels and their values."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] |= set(sample.labels.items())
    return found


def test_names_labels_and_values(vtrix: Json, vidu: Json) -> None:
    """Each metric has its labels and their known values."""
    first, second = labels(vtrix["metrics"]), labels(vidu["metrics"])
    assert_words("metrics", first | second, VALUES)
    for name, frozen in VALUES.items():
        assert_words(f"labels of {name}", first[name] | second[name], frozen)


def test_kinds_of_metrics(vtrix: Json) -> None:
    """Each metric keeps its type."""
    kinds = {family.name: family.type for family in text_string_to_metric_families(vtrix["metrics"])}
    names = ("callbacks", "polls", "upstream_requests", "cost_faults", "credit_refusals")
    counters = {f"boomerang_{name}": "counter" for name in names}
    gauges = {name: "gauge" for name in VALUES if not name.endswith("_total")}
    assert_words("kinds of metrics", kinds.items(), (counters | gauges).items())
