"""The endpoint that replays many deliveries: its body, its answer, and who may replay what."""

from datetime import UTC, datetime
from typing import Any

import pytest

from service.domain.ports.replays import ReplayFilter
from tests.unit.api.fakes import KEYS, FakeApplication, a_delivery, app_of, client_of

PATH = "/v1/deliveries/replay"


def _fake() -> FakeApplication:
    fake = FakeApplication()
    statuses = ("dead", "pending", "delivered", "dead")
    fake.deliveries_by_id = {f"delivery-{n}": a_delivery(n, status=status) for n, status in enumerate(statuses)}
    return fake


async def _post(fake: FakeApplication, body: Any, name: str = "root") -> Any:
    async with client_of(app_of(fake, api_keys=KEYS), f"key-of-{name}") as client:
        return await client.post(PATH, json=body)


async def test_replay_answers_with_counts() -> None:
    """The dead ones by default; the answer counts them by status and handler, and names some."""
    fake = _fake()
    response = await _post(fake, {"handler": "webhook"})
    assert response.status_code == 200
    assert fake.replayed == ["delivery-0", "delivery-3"]
    assert response.json() == {
        "dry_run": False,
        "matched": 2,
        "replayed": 2,
        "erased": 0,
        "running": 0,
        "changed": 0,
        "secret_deleted": 0,
        "by_status": {"dead": 2},
        "by_handler": {"webhook": 2},
        "sample": ["delivery-0", "delivery-3"],
        "last_due_at": response.json()["last_due_at"],
        "next_cursor": None,
    }


async def test_dry_run_changes_nothing() -> None:
    """It counts, and replays none."""
    fake = _fake()
    body = (await _post(fake, {"handler": "webhook", "status": ["dead", "pending"], "dry_run": True})).json()
    assert (body["dry_run"], body["matched"], body["replayed"], body["last_due_at"]) == (True, 3, 0, None)
    assert body["by_status"] == {"dead": 2, "pending": 1}
    assert fake.replayed == []


async def test_admin_filter_is_that_of_the_body() -> None:
    """Every field of the body narrows the filter; hosts are compared in lower case and without a final dot."""
    fake = _fake()
    body = {
        "handler": "webhook",
        "client": "ann",
        "status": ["pending"],
        "receiver": "Hooks.Example.org.",
        "since": "2026-05-06T14:00:00+02:00",
        "until": "2026-05-07T00:00:00Z",
    }
    assert (await _post(fake, body)).status_code == 200
    assert fake.replay_filters == [
        ReplayFilter(
            statuses=frozenset({"pending"}),
            handler="webhook",
            client="ann",
            receiver="hooks.example.org",
            since=datetime(2026, 5, 6, 12, tzinfo=UTC),
            until=datetime(2026, 5, 7, tzinfo=UTC),
        )
    ]


async def test_client_replays_only_its_own_requested_deliveries() -> None:
    """Whatever it asks for, its filter has its name, and leaves out what the operator's settings asked for."""
    fake = _fake()
    assert (await _post(fake, {"handler": "webhook"}, "ann")).status_code == 200
    assert (await _post(fake, {"client": "ann"}, "ann")).status_code == 200
    assert {(one.client, one.requested) for one in fake.replay_filters} == {("ann", True)}


async def test_every_fault_of_a_body_is_reported_at_once() -> None:
    """Each fault has its location; nothing is replayed."""
    fake = _fake()
    body = {
        "client": "bob",
        "handler": "",
        "status": ["dead", "delivered"],
        "since": "2026-05-06T14:00:00",
        "until": 7,
        "receiver": 1,
        "dry_run": "yes",
        "cursor": "abc",
        "handlers": [],
    }
    response = await _post(fake, body, "ann")
    assert response.status_code == 422
    found = {tuple(error["loc"]) for error in response.json()["errors"]}
    assert found == {(name,) for name in body}
    assert (fake.replayed, fake.replay_filters) == ([], [])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"status": ["dead"]}, 422),
        ({"handler": None}, 422),
        ([], 422),
        ({"handler": "webhook", "status": []}, 422),
        ({"handler": "webhook", "status": "dead"}, 422),
        ({"handler": "webhook", "status": ["dead", "dead"]}, 422),
        ({"since": "2026-05-07T00:00:00Z", "until": "2026-05-07T00:00:00Z"}, 422),
        ({"since": "0001-01-01T00:00:00+23:00"}, 422),
    ],
)
async def test_unbounded_and_impossible_replays_are_refused(body: Any, status: int) -> None:
    """Something must narrow the selection, so that an empty body does not replay everything."""
    fake = _fake()
    assert ((await _post(fake, body)).status_code, fake.replayed) == (status, [])
