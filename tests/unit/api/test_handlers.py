"""The addresses under `/v1/handlers`."""

from typing import Any

import httpx
import pytest

from service.api.handlers import LoadedHandler
from tests.unit.api.fake_handlers import a_circuit
from tests.unit.api.fakes import KEYS, FakeApplication, FakeAuditLog, app_of, client_of

LOADED = [
    LoadedHandler(names=("log",), events=frozenset({"task.completed"}), by_request=False),
    LoadedHandler(names=("hook", "old-hook"), events=frozenset({"task.failed"}), by_request=True),
]


async def _call(
    fake: FakeApplication, method: str, path: str = "", body: Any = None, key: str = "key-of-root"
) -> httpx.Response:
    async with client_of(app_of(fake, api_keys=KEYS, loaded=LOADED), key) as client:
        return await client.request(method, f"/v1/handlers{path}", **({} if body is None else {"json": body}))


async def _paused(fake: FakeApplication) -> dict[str, bool]:
    return {row["name"]: row["paused"] for row in (await _call(fake, "GET")).json()["data"]}


async def test_pause_and_resume() -> None:
    """A paused handler says since when and by whom; a second pause changes nothing; a resume ends it."""
    fake = FakeApplication()
    first = await _call(fake, "POST", "/log/pause")
    assert (first.status_code, first.json()["paused"], first.json()["paused_by"]) == (200, True, "root")
    assert first.json()["paused_at"] == "2026-05-06T12:09:42.000Z"
    assert (await _call(fake, "POST", "/log/pause")).json() == first.json()
    assert await _paused(fake) == {"hook": False, "log": True}
    assert (await _call(fake, "POST", "/log/resume")).json()["paused"] is False
    assert await _paused(fake) == {"hook": False, "log": False}


async def test_former_name_pauses_the_handler() -> None:
    """The pause is kept under the oldest name, so that a renamed handler stays paused, and names all."""
    fake = FakeApplication()
    assert (await _call(fake, "POST", "/old-hook/pause")).json()["name"] == "hook"
    assert fake.handlers.pauses["old-hook"].names == ("hook", "old-hook")
    assert await _paused(fake) == {"hook": True, "log": False}


async def test_handler_of_another_process_is_listed_and_paused_while_deliveries_wait() -> None:
    """It is known by its deliveries alone; an unknown name is refused."""
    fake = FakeApplication()
    assert (await _call(fake, "POST", "/elsewhere/pause")).status_code == 404
    fake.handlers.pending = ["elsewhere", "log"]
    row = (await _call(fake, "POST", "/elsewhere/pause")).json()
    assert (row["loaded"], row["paused"], row["events"]) == (False, True, None)
    fake.handlers.pending = []
    assert await _paused(fake) == {"elsewhere": True, "hook": False, "log": False}
    assert (await _call(fake, "POST", "/elsewhere/resume")).json()["paused"] is False


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", "/log/pause"), ("POST", "/log/resume"), ("POST", "/log/test")]
)
async def test_only_an_admin_may(method: str, path: str) -> None:
    """A client may neither see nor stop handlers."""
    fake = FakeApplication()
    assert (await _call(fake, method, path, key="key-of-ann")).status_code == 403
    assert not fake.handlers.pauses
    assert not fake.handlers.tests


async def test_test_event() -> None:
    """The outcome comes back; target and event type are handed on."""
    fake = FakeApplication()
    answer = await _call(fake, "POST", "/log/test")
    assert answer.json() == {
        "handler": "log",
        "event": "task.completed",
        "outcome": "dead",
        "error": "Reject: closed",
        "seconds": 0.25,
    }
    assert (await _call(fake, "POST", "/hook/test", {"target": {"chat": 4}, "event": "task.failed"})).is_success
    assert fake.handlers.tests == [("log", None, None), ("hook", {"chat": 4}, "task.failed")]
    assert (await _call(fake, "POST", "/gone/test")).status_code == 404


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"target": {"handler": "log"}}, ["target", "handler"]),
        ({"event": "task.complete"}, ["event"]),
        ({"targets": {}}, ["targets"]),
        ({"target": 5}, ["target"]),
        ([], []),
    ],
)
async def test_wrong_test_events_are_refused(body: Any, loc: list[str]) -> None:
    """Each fault is named."""
    fake = FakeApplication()
    answer = await _call(fake, "POST", "/log/test", body)
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, loc)
    assert not fake.handlers.tests


async def test_dead_letters_by_fault() -> None:
    """`fault` is for dead letters alone."""
    async with client_of(app_of(FakeApplication(), api_keys=KEYS), "key-of-root") as client:
        assert (await client.get("/v1/deliveries?fault=ours")).status_code == 200
        assert (await client.get("/v1/deliveries?fault=ours&status=dead")).status_code == 200
        wrong = await client.get("/v1/deliveries?fault=ours&status=pending")
        assert (wrong.status_code, wrong.json()["errors"][0]["loc"]) == (422, ["query", "fault"])
        assert (await client.get("/v1/deliveries?fault=mine")).status_code == 422


async def test_circuits_are_listed_page_by_page_for_an_admin() -> None:
    """Each page continues after the last key; a client sees none: hosts of other clients are none of its business."""
    fake = FakeApplication()
    fake.handlers.circuits = [a_circuit(f"c{number}") for number in range(5)]
    async with client_of(app_of(fake, api_keys=KEYS), "key-of-root") as client:
        found, cursor = [], None
        while True:
            page = (
                await client.get("/v1/circuits", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
            ).json()
            found += [row["key"] for row in page["data"]]
            if not (cursor := page["next_cursor"]):
                break
        assert found == ["c0", "c1", "c2", "c3", "c4"]
        assert (await client.get("/v1/circuits?cursor=x")).status_code == 422
    async with client_of(app_of(fake, api_keys=KEYS), "key-of-ann") as client:
        assert (await client.get("/v1/circuits")).status_code == 403


async def test_circuit_is_closed_by_an_admin_and_recorded() -> None:
    """The entry of the audit log says which destination it was; an unknown key is 404."""
    fake, audit_log = FakeApplication(), FakeAuditLog()
    fake.handlers.circuits = [a_circuit("c1"), a_circuit("c2", host=None, client=None, handler="log")]
    app = app_of(fake, api_keys=KEYS, audit_log=audit_log)
    async with client_of(app, "key-of-ann") as client:
        assert (await client.post("/v1/circuits/c1/close")).status_code == 403
    async with client_of(app, "key-of-root") as client:
        answer = await client.post("/v1/circuits/c1/close")
        assert (answer.status_code, answer.json()["state"], answer.json()["retry_at"]) == (200, "closed", None)
        assert (await client.post("/v1/circuits/c2/close")).status_code == 200
        assert (await client.post("/v1/circuits/c1/close")).status_code == 404
        assert (await client.post("/v1/circuits/c2/close?force=1")).status_code == 422
    found = [(row.action, row.target, row.detail) for row in audit_log.rows]
    assert sorted(found) == [
        ("circuit.close", "c1", "hooks.example of ann"),
        ("circuit.close", "c2", "the handler log"),
    ]
