"""What clients and admins see of deliveries, and what they may replay."""

from typing import Any
from unittest.mock import patch

import pytest

from service.domain.delivery_errors import UNREACHABLE
from service.domain.history_position import HistoryEntry
from service.domain.task import Json
from tests.unit.api.fakes import KEYS, FakeApplication, a_delivery, a_task, app_of, client_of, entry_of

INSIDE = "EgressRefused: db.internal is at 10.0.0.7, which is not public"
OPERATORS = a_delivery(1, client="ann", handler="crm", requested=False, last_error="KeyError: 'password-of-the-crm'")
OWN = a_delivery(2, client="ann", last_error=INSIDE)


def _fake() -> FakeApplication:
    fake = FakeApplication(tasks_by_id={"task-1": a_task(client="ann")})
    fake.deliveries_by_id = {each.id: each for each in (OPERATORS, OWN)}
    return fake


async def _get(path: str, name: str) -> Any:
    async with client_of(app_of(_fake(), api_keys=KEYS), f"key-of-{name}") as client:
        return (await client.get(path)).json()


@pytest.mark.parametrize(
    ("name", "errors"),
    [
        ("ann", {"delivery-1": "KeyError", "delivery-2": UNREACHABLE}),
        ("root", {"delivery-1": OPERATORS.last_error, "delivery-2": INSIDE}),
    ],
)
async def test_client_sees_class_or_sentence_and_an_admin_everything(name: str, errors: dict[str, str]) -> None:
    """In the list and in single deliveries alike."""
    rows = (await _get("/v1/deliveries", name))["data"]
    assert {row["id"]: row["last_error"] for row in rows} == errors
    for delivery_id, error in errors.items():
        assert (await _get(f"/v1/deliveries/{delivery_id}", name))["last_error"] == error


AT = "2026-05-06T12:00:00.000Z"
HISTORY: list[Json] = [
    {"kind": "poll", "at": AT, "outcome": "unwell"},
    {"kind": "delivery", "at": AT, "handler": "crm", "last_error": OPERATORS.last_error, "requested": False},
    {"kind": "attempt", "at": AT, "handler": "crm", "error": OPERATORS.last_error, "requested": False},
    {"kind": "delivery", "at": AT, "handler": "webhook", "last_error": INSIDE, "requested": True},
    {"kind": "attempt", "at": AT, "handler": "webhook", "error": INSIDE, "requested": True},
    {"kind": "attempt", "at": AT, "handler": "webhook", "error": None, "requested": True},
]


@pytest.mark.parametrize(
    ("name", "errors"),
    [
        ("ann", ["KeyError", "KeyError", UNREACHABLE, UNREACHABLE, None]),
        ("root", [OPERATORS.last_error, OPERATORS.last_error, INSIDE, INSIDE, None]),
    ],
)
async def test_history_shows_the_same(name: str, errors: list[str | None]) -> None:
    """Deliveries and attempts in the history of a task; only deliveries say who requested them."""

    async def history(_: object, __: object, **___: object) -> list[HistoryEntry]:
        return [entry_of(row) for row in HISTORY]

    with patch.object(FakeApplication, "history", history):
        rows = (await _get("/v1/tasks/task-1/events", name))["data"]
    assert [row.get("last_error", row.get("error")) for row in rows[1:]] == errors
    assert ["requested" in row for row in rows] == [row["kind"] == "delivery" for row in rows]


@pytest.mark.parametrize(
    ("name", "delivery_id", "status"),
    [("ann", "delivery-1", 403), ("ann", "delivery-2", 202), ("root", "delivery-1", 202), ("bob", "delivery-2", 404)],
)
async def test_client_replays_only_what_it_requested(name: str, delivery_id: str, status: int) -> None:
    """A client does not make the operator's handlers run again; an admin does."""
    fake = _fake()
    async with client_of(app_of(fake, api_keys=KEYS), f"key-of-{name}") as client:
        response = await client.post(f"/v1/deliveries/{delivery_id}/replay")
    assert response.status_code == status
    assert fake.replayed == ([delivery_id] if status == 202 else [])


async def test_replay_without_its_secret_is_refused() -> None:
    """A delivered webhook whose secret is deleted cannot be signed again."""
    fake = _fake()
    fake.not_replayed["delivery-2"] = "secret_deleted"
    async with client_of(app_of(fake, api_keys=KEYS), "key-of-ann") as client:
        response = await client.post("/v1/deliveries/delivery-2/replay")
    assert response.status_code == 409
    assert "secret was deleted" in response.json()["detail"]
