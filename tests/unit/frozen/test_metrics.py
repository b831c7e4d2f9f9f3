"""Metric names, label names and label values: dashboards and alerts depend on them."""

from collections import defaultdict

from prometheus_client.parser import text_string_to_metric_families

from service.api.metrics import installed_version
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
REQUESTS = CREATES | FETCHES | CANCELS | {"find_ok"}
REASONS = {"unknown_key", "signature", "unreadable", "too_large"}
SETTLED = {"completed", "failed", "canceled"}
VALUES = {
    "boomerang_tasks": {("status", word) for word in STATUSES},
    "boomerang_deliveries": {("status", word) for word in ("pending", "delivered", "dead")},
    "boomerang_endpoints": {("state", word) for word in ("active", "paused", "disabled")},
    "boomerang_attempts": {("outcome", word) for word in ("delivered", "retry", "dead")}
    | {("handler", name) for name in ("failing", "later", "log", "rejecting")},
    "boomerang_oldest_unsettled_task_seconds": set(),
    "boomerang_oldest_due_row_seconds": set(),
    "boomerang_in_doubt_tasks": set(),
    "boomerang_unknown_status_seconds": {("word", "warming_up")},
    "boomerang_day_cost_dollars": {("client", "root")},
    "boomerang_day_spend_dollars": {("client", "root")},
    "boomerang_build_info": {("version", installed_version())},
    "boomerang_database_up": set(),
    "boomerang_circuits": {("state", word) for word in ("open", "busy")},
    "boomerang_dead_letters_by_fault": {("fault", word) for word in ("destination", "ours")},
    "boomerang_dead_letters": {("handler", name) for name in ("failing", "rejecting")},
    "boomerang_inbox_callbacks": {("verdict", word) for word in STORED},
    "boomerang_callbacks_total": {("verdict", word) for word in REFUSED | {"accepted"}},
    "boomerang_callbacks_refused_total": {("reason", word) for word in REASONS},
    "boomerang_polls_total": {("outcome", word) for word in OUTCOMES | ANSWERS},
    "boomerang_provider_requests_total": {("kind", word.partition("_")[0]) for word in REQUESTS}
    | {("outcome", word.partition("_")[2]) for word in REQUESTS},
    "boomerang_upstream_requests_total": {("kind", word) for word in REQUESTS},
}


HISTOGRAMS = {
    "boomerang_wait_before_start_seconds": set(),
    "boomerang_time_to_settle_seconds": {("status", word) for word in SETTLED},
    "boomerang_time_to_deliver_seconds": {("handler", name) for name in ("log",)},
}


def labels(text: str) -> dict[str, set[tuple[str, str]]]:
    """Return each metric of an exposition with its labels and their values."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = family.name if family.type == "histogram" else sample.name
            found[name] |= {(label, value) for label, value in sample.labels.items() if label != "le"}
    return found


def test_names_labels_and_values(vtrix: Json, vidu: Json) -> None:
    """Each metric has its labels and their known values."""
    first, second = labels(vtrix["metrics"]), labels(vidu["metrics"])
    assert_words("metrics", first | second, VALUES | HISTOGRAMS)
    for name, frozen in (VALUES | HISTOGRAMS).items():
        assert_words(f"labels of {name}", first[name] | second[name], frozen)


def test_kinds_of_metrics(vtrix: Json) -> None:
    """Each metric keeps its type."""
    kinds = {family.name: family.type for family in text_string_to_metric_families(vtrix["metrics"])}
    counters = {name.removesuffix("_total"): "counter" for name in VALUES if name.endswith("_total")}
    counters |= {f"boomerang_{name}": "counter" for name in ("cost_faults", "credit_refusals", "log_lines_dropped")}
    gauges = {name: "gauge" for name in VALUES if not name.endswith("_total")}
    histograms = dict.fromkeys(HISTOGRAMS, "histogram")
    assert_words("kinds of metrics", kinds.items(), (counters | gauges | histograms).items())
