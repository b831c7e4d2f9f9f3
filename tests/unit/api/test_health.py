"""Probes and metrics."""

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


async def test_metrics_have_every_gauge_and_counter(fake: FakeApplication) -> None:
    """The page has every value of the database and of the process, and zero for statuses without tasks."""
    counters = {"polls": {"settled": 4}, "throttles": {"429": 1}}
    async with client_of(app_of(fake, counters=lambda: counters)) as client:
        await client.post("/callbacks/token", content=b"{}")
        response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(response.text)
    expected = {
        ("boomerang_tasks", ("queued",)): 3,
        ("boomerang_tasks", ("completed",)): 7,
        ("boomerang_tasks", ("in_doubt",)): 0,
        ("boomerang_deliveries", ("dead",)): 2,
        ("boomerang_attempts", ("webhook", "retry")): 5,
        ("boomerang_inbox_callbacks", ("accepted",)): 11,
        ("boomerang_callbacks_total", ("accepted",)): 1,
        ("boomerang_database_up", ()): 1,
        ("boomerang_polls_total", ("settled",)): 4,
        ("boomerang_throttles_total", ("429",)): 1,
        ("boomerang_oldest_unsettled_task_seconds", ()): 90,
        ("boomerang_oldest_due_row_seconds", ()): 1.5,
        ("boomerang_in_doubt_tasks", ()): 1,
    }
    assert {key: found.get(key) for key in expected} == expected


async def test_process_is_alive_without_its_database(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Liveness does not depend on the database."""
    fake.error = StoreUnavailable("gone")
    assert (await client.get("/healthz")).json() == {"status": "alive"}


@pytest.mark.parametrize(
    ("not_ready_reason", "error", "detail"),
    [
        ("run `boomerang migrate`", None, "run `boomerang migrate`"),
        (None, StoreUnavailable("host db-7 refused"), "the database does not answer"),
        (None, RuntimeError("host db-7 refused"), "the database does not answer"),
    ],
)
async def test_not_ready_has_the_reason(
    client: httpx.AsyncClient, fake: FakeApplication, not_ready_reason: str | None, error: Exception | None, detail: str
) -> None:
    """Readiness is 503 with the fix, or with the failure of the database."""
    fake.not_ready_reason, fake.error = not_ready_reason, error
    response = await client.get("/readyz")
    assert (response.status_code, response.json()["detail"]) == (503, detail)


async def test_ready_is_200(client: httpx.AsyncClient) -> None:
    """A database that answers and has the right schema is ready."""
    assert (await client.get("/readyz")).json() == {"status": "ready"}


async def test_unhealthy_process_is_not_ready(fake: FakeApplication) -> None:
    """Readiness needs a healthy process too, and has the failure reason."""
    services = ProbeServices(health=fake, clock=fake, failure_reason=lambda: "the jobs have not started yet")
    async with client_of(create_probe_app(services)) as prober:
        response = await prober.get("/readyz")
        assert (response.status_code, response.json()["detail"]) == (503, "the jobs have not started yet")
        assert (await prober.get("/healthz")).status_code == 200


async def test_worker_serves_probes_only(fake: FakeApplication) -> None:
    """A worker serves the probes, the metrics with a key, and no API."""
    app = create_probe_app(ProbeServices(health=fake, clock=fake, api_keys=KEYS))
    async with client_of(app) as anonymous:
        assert (await anonymous.get("/healthz")).status_code == 200
        assert (await anonymous.get("/readyz")).status_code == 200
        assert (await anonymous.get("/metrics")).status_code == 401
        assert (await anonymous.post("/callbacks/abc")).status_code == 404
    async with client_of(app, "key-of-root") as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/v1/tasks")).status_code == 404


async def test_head_is_served_like_get(client: httpx.AsyncClient) -> None:
    """HEAD has the status of GET."""
    assert (await client.head("/healthz")).status_code == 200


@pytest.mark.parametrize("worker", [False, True])
@pytest.mark.parametrize(
    ("key", "status"), [("key-of-root", 200), ("key-of-metrics", 200), ("key-of-ann", 403), ("wrong", 401), (None, 401)]
)
async def test_metrics_are_for_admins_and_the_metrics_key(
    fake: FakeApplication, worker: bool, key: str | None, status: int
) -> None:
    """Other clients see nothing of the load of all; the refusal names the setting."""
    app = (
        create_probe_app(ProbeServices(health=fake, clock=fake, api_keys=KEYS, metrics_key="key-of-metrics"))
        if worker
        else app_of(fake, api_keys=KEYS, metrics_key="key-of-metrics")
    )
    async with client_of(app, key) as client:
        response = await client.get("/metrics")
        assert (await client.get("/metrics/")).status_code == response.status_code
    assert response.status_code == status
    assert status != 403 or "BOOMERANG_METRICS_KEY" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/models", "/openapi.json"])
async def test_metrics_key_opens_nothing_else(fake: FakeApplication, path: str) -> None:
    """The key of a monitoring system is unknown to the API."""
    async with client_of(app_of(fake, api_keys=KEYS, metrics_key="key-of-metrics"), "key-of-metrics") as client:
        assert (await client.get(path)).status_code == 401


async def test_metrics_key_does_not_close_the_local_metrics(fake: FakeApplication) -> None:
    """Without API keys callers on this machine read the metrics as before."""
    async with client_of(app_of(fake, metrics_key="key-of-metrics")) as client:
        assert (await client.get("/metrics")).status_code == 200
