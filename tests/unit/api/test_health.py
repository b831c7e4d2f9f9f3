"""What the service tells about itself."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.api.app import ProbeServices, create_probe_app
from service.domain.errors import StoreUnavailable
from tests.unit.api.fakes import KEYS, FakeApplication, app_of, client_of


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the samples of a metrics page by name and label values."""
    families = text_string_to_metric_families(text)
    return {(each.name, tuple(each.labels.values())): each.value for family in families for each in family.samples}


async def test_the_metrics_say_what_was_read(world: FakeApplication) -> None:
    """Every figure of the reading and of the process is on the page, zeros for statuses without tasks."""
    counters = {"polls": {"settled": 4}, "callbacks": {"accepted": 2}, "throttles": {"429": 1}}
    async with client_of(app_of(world, counters=lambda: counters)) as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(answer.text)
    expected = {
        ("boomerang_tasks", ("queued",)): 3,
        ("boomerang_tasks", ("completed",)): 7,
        ("boomerang_tasks", ("in_doubt",)): 0,
        ("boomerang_deliveries", ("dead",)): 2,
        ("boomerang_attempts", ("webhook", "retry")): 5,
        ("boomerang_callbacks_total", ("accepted",)): 13,
        ("boomerang_polls_total", ("settled",)): 4,
        ("boomerang_throttles_total", ("429",)): 1,
        ("boomerang_oldest_unsettled_task_seconds", ()): 90,
        ("boomerang_oldest_due_row_seconds", ()): 1.5,
        ("boomerang_in_doubt_tasks", ()): 1,
    }
    assert {key: found.get(key) for key in expected} == expected


async def test_a_process_is_alive_without_its_database(client: httpx.AsyncClient, world: FakeApplication) -> None:
    """Liveness does not depend on the database."""
    world.fails = StoreUnavailable("gone")
    assert (await client.get("/healthz")).json() == {"status": "alive"}


@pytest.mark.parametrize(
    ("unready", "fails", "detail"),
    [
        ("run `boomerang migrate`", None, "run `boomerang migrate`"),
        (None, StoreUnavailable("host db-7 refused"), "the database does not answer"),
        (None, RuntimeError("host db-7 refused"), "the database does not answer"),
    ],
)
async def test_not_ready_says_what_to_do(
    client: httpx.AsyncClient, world: FakeApplication, unready: str | None, fails: Exception | None, detail: str
) -> None:
    """Readiness is 503 with what to do, or that the database is gone."""
    world.unready, world.fails = unready, fails
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["detail"]) == (503, detail)


async def test_ready_is_200(client: httpx.AsyncClient) -> None:
    """A database that answers and fits makes us ready."""
    assert (await client.get("/readyz")).json() == {"status": "ready"}


async def test_a_process_that_does_not_work_is_not_ready(world: FakeApplication) -> None:
    """A database that fits is not enough: the process says what keeps it from working."""
    services = ProbeServices(health=world, clock=world, failure_reason=lambda: "the rounds have not begun yet")
    async with client_of(create_probe_app(services)) as prober:
        answer = await prober.get("/readyz")
        assert (answer.status_code, answer.json()["detail"]) == (503, "the rounds have not begun yet")
        assert (await prober.get("/healthz")).status_code == 200


async def test_a_worker_tells_about_itself_and_nothing_else(world: FakeApplication) -> None:
    """The application of a worker has the probes, with a key before the metrics, and no API."""
    app = create_probe_app(ProbeServices(health=world, clock=world, api_keys=KEYS))
    async with client_of(app) as stranger:
        assert (await stranger.get("/healthz")).status_code == 200
        assert (await stranger.get("/readyz")).status_code == 200
        assert (await stranger.get("/metrics")).status_code == 401
        assert (await stranger.post("/callbacks/abc")).status_code == 404
    async with client_of(app, "key-of-ann") as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/v1/tasks")).status_code == 404


async def test_head_is_answered_like_get(client: httpx.AsyncClient) -> None:
    """A prober that saves the body gets the same answer."""
    assert (await client.head("/healthz")).status_code == 200
