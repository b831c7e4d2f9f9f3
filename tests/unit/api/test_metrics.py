"""The metrics page: a valid exposition, counters of the process and gauges of the database, and bounded labels."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.api import health as health_api
from service.api.metrics import COUNTERS, HISTOGRAMS, MAX_NAMES, exposition, installed_version
from service.domain.duration_histogram import DurationHistogram
from service.domain.errors import StoreUnavailable
from service.domain.ports.health import Gauges
from tests.unit.api.fakes import FakeApplication, app_of, client_of

GAUGES = FakeApplication().gauges_now


def page(gauges: Gauges | None = GAUGES, **figures: object) -> str:
    """Return the page for `gauges` and the figures of a process."""
    counters, histograms = figures.get("counters", {}), figures.get("histograms", {})
    assert isinstance(counters, dict)
    assert isinstance(histograms, dict)
    return exposition(gauges, counters, histograms).decode()


def series(text: str) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    """Return the name and labels of each sample, in the order of the page."""
    families = text_string_to_metric_families(text)
    return [(each.name, tuple(sorted(each.labels.items()))) for one in families for each in one.samples]


def values(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of one name by their label values."""
    families = text_string_to_metric_families(text)
    return {tuple(each.labels.values()): each.value for one in families for each in one.samples if each.name == name}


ODD = {'a"b': 1.0, "back\\slash": 2.0, "two\nlines": 3.0, "ünïcode 😀": 4.0, "\ud800": 5.0, "": 6.0}


def test_exposition_is_valid_with_any_names() -> None:
    """Labels are escaped, HELP and TYPE stand once before their samples, and no series is there twice."""
    histogram = DurationHistogram(bounds=(1.0, 5.0))
    histogram.observe(timedelta(seconds=2))
    gauges = replace(GAUGES, day_costs=ODD, dead_letters=dict.fromkeys(ODD, 1), status_words={"\ud800": timedelta()})
    text = page(gauges, counters={"polls": {"\n": 1}}, histograms={"time_to_deliver_seconds": {'h"': histogram}})
    found = series(text)
    assert len(found) == len(set(found))
    for kind in ("HELP", "TYPE"):
        named = [line.split(" ", 3)[2] for line in text.splitlines() if line.startswith(f"# {kind} ")]
        assert len(named) == len(set(named))
    costs = values(text, "boomerang_day_cost_dollars")
    assert costs == {(name.replace("\ud800", "?"),): value for name, value in ODD.items()}
    assert all(line.startswith(("#", "boomerang_")) for line in text.splitlines())


def test_order_is_stable() -> None:
    """The same figures in another order make the same page."""
    turned = replace(GAUGES, tasks=dict(reversed(list(GAUGES.tasks.items()))))
    counters = {"polls": {"a": 1, "b": 2}, "callbacks": {"x": 1}}
    other = {"callbacks": {"x": 1}, "polls": {"b": 2, "a": 1}}
    assert page(counters=counters) == page(turned, counters=other)


def test_counters_of_the_process_and_gauges_of_the_database_differ_by_name() -> None:
    """Counters end in _total, gauges never; the help says what each is, and the labels have one meaning each."""
    text = page(counters={"provider_requests": {("create", "ok"): 3}})
    for family in text_string_to_metric_families(text):
        lines = text.splitlines()
        declared = next(line for line in lines if line.startswith(f"# TYPE {family.name}"))
        assert declared.split()[2].endswith("_total") == (family.type == "counter")
        own = family.type in {"counter", "histogram"}
        assert ("this process" in family.documentation) == (own or family.name == "boomerang_build_info")
        if family.type == "gauge" and family.name not in {"boomerang_build_info", "boomerang_database_up"}:
            assert "the same in each process" in family.documentation
    assert values(text, "boomerang_provider_requests_total") == {("create", "ok"): 3}


def test_many_clients_and_handlers_are_folded() -> None:
    """The greatest keep their series, the rest is added up as `other`; the sum is right."""
    many = {f"client-{n:04}": float(n) for n in range(500)}
    attempts = {(f"handler-{n:04}", outcome): n for n in range(500) for outcome in ("delivered", "dead")}
    text = page(replace(GAUGES, day_costs=many, spent=many, attempts=attempts, dead_letters=dict.fromkeys(many, 1)))
    for name in ("day_cost_dollars", "day_spend_dollars", "dead_letters"):
        found = values(text, f"boomerang_{name}")
        assert len(found) == MAX_NAMES + 1
        assert ("other",) in found
    costs = values(text, "boomerang_day_cost_dollars")
    assert sum(costs.values()) == sum(many.values())
    assert ("client-0499",) in costs
    tried = values(text, "boomerang_attempts")
    assert (len(tried), sum(tried.values())) == (2 * (MAX_NAMES + 1), sum(attempts.values()))


def test_durations_are_counted_by_their_size() -> None:
    """Buckets are cumulative, a value on a bound is in its bucket, and a negative duration counts as zero."""
    histogram = DurationHistogram(bounds=(1.0, 5.0))
    for seconds in (-3, 1, 1.5, 60):
        histogram.observe(timedelta(seconds=seconds))
    text = page(histograms={"wait_before_start_seconds": {"": histogram}})
    assert values(text, "boomerang_wait_before_start_seconds_bucket") == {("1.0",): 2, ("5.0",): 3, ("+Inf",): 4}
    assert values(text, "boomerang_wait_before_start_seconds_count") == {(): 4}
    assert values(text, "boomerang_wait_before_start_seconds_sum") == {(): 62.5}


def test_version_and_every_counter_are_there_from_the_start() -> None:
    """A new process declares each counter and histogram before it has counted anything."""
    text = page()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {f"boomerang_{name}" for name in (*COUNTERS, *HISTOGRAMS)} <= names
    assert values(text, "boomerang_build_info") == {(installed_version(),): 1}


@pytest.mark.parametrize("silent", [False, True])
async def test_without_its_database_a_process_shows_its_own_figures(
    fake: FakeApplication, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """The scrape succeeds while the database is gone or silent: that is when the figures of the process matter."""
    monkeypatch.setattr(health_api, "METRICS_TIMEOUT", 0.01)

    async def gauges(*_: object, **__: object) -> Gauges:
        if silent:
            await anyio.sleep_forever()
        raise StoreUnavailable("gone")

    monkeypatch.setattr(fake, "gauges", gauges)
    async with client_of(app_of(fake, counters=lambda: {"polls": {"completed": 4}})) as client:
        response = await client.get("/metrics")
    assert response.status_code == 200
    assert values(response.text, "boomerang_database_up") == {(): 0}
    assert values(response.text, "boomerang_polls_total") == {("completed",): 4}
    assert "boomerang_tasks{" not in response.text


def test_every_metric_is_documented() -> None:
    """The table in service/README.md has each metric once, with its labels and its kind."""
    readme = (Path(__file__).parents[3] / "service" / "README.md").read_text("utf-8")
    rows = re.findall(
        r"^\| `(boomerang_[a-z_]+)(?:\{([a-z_, ]+)\})?` \| (\w+) \| [^|]+ \|[^|]*\|$", readme, re.MULTILINE
    )
    documented = [(name, tuple(labels.split(", ")) if labels else (), kind) for name, labels, kind in rows]
    assert sorted(documented) == sorted(_declared())


def _declared() -> list[tuple[str, tuple[str, ...], str]]:
    """Return each metric of a page with every label, and its kind."""
    counters = {name: {tuple("x" for _ in labels): 1} for name, (labels, _) in COUNTERS.items()}
    histogram = DurationHistogram(bounds=(1.0,))
    gauges = replace(
        GAUGES,
        dead_letters={"h": 1},
        status_words={"w": timedelta()},
        day_costs={"c": 1.0},
        spent={"c": 1},
        endpoints={"active": 1},
    )
    text = page(gauges, counters=counters, histograms={name: {"": histogram} for name in HISTOGRAMS})
    found = []
    for family in text_string_to_metric_families(text):
        labels = tuple(name for name in family.samples[0].labels if name != "le")
        found.append((family.name + ("_total" if family.type == "counter" else ""), labels, family.type))
    return found
