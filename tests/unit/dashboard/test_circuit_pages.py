"""The pages of circuits, and what endpoints have of rates and operator events."""

import pytest

from service.domain.errors import StoreUnavailable
from service.domain.ports.audit import AuditEntry
from service.storage.audit_log import SqlAuditLog
from service.storage.control_tables import circuits
from service.storage.dialects import insert
from tests.unit.api.fake_handlers import a_circuit
from tests.unit.dashboard.conftest import PagesUnderTest

XSS = '"><script>alert(1)</script>'


async def add_circuit(pages: PagesUnderTest, key: str, **changes: object) -> None:
    """Store a circuit."""
    circuit = a_circuit(key, **changes)
    async with pages.store._database.writing() as write:
        await write.connection.execute(insert(write.connection, circuits), vars(circuit))


async def test_circuit_is_shown_and_closed(pages: PagesUnderTest) -> None:
    """An admin sees destination, error and next try, and closes it; the audit log has who did it."""
    await add_circuit(pages, "c1", last_error=XSS)
    await add_circuit(pages, "c2", host=None, client=None, handler="log", state="busy", retry_at=None)
    page = await pages.get("/deliveries/circuits")
    assert page.status_code == 200
    assert "hooks.example of ann" in page.text
    assert "the handler log" in page.text
    assert XSS not in page.text
    assert "/deliveries/circuits" in (await pages.get("/")).text
    answer = await pages.post("/deliveries/circuits/c1")
    assert answer.status_code == 303
    left = (await pages.get("/deliveries/circuits?format=json")).json()["data"]
    assert [row["key"] for row in left] == ["c2"]
    entries = (await pages.get("/audit?format=json")).json()["data"]
    assert next((row["actor"], row["action"], row["detail"]) for row in entries) == (
        "ops",
        "circuit.close",
        "hooks.example of ann",
    )
    assert (await pages.post("/deliveries/circuits/gone")).status_code == 404


async def test_only_an_admin_closes(pages: PagesUnderTest) -> None:
    """A reader sees the list without a button; a client sees none of it."""
    await add_circuit(pages, "c1")
    page = await pages.get("/deliveries/circuits", "view")
    assert (page.status_code, "hooks.example of ann" in page.text) == (200, True)
    assert "Close the circuit" not in page.text
    assert (await pages.get("/deliveries/circuits", "ann")).status_code == 403


async def test_endpoint_has_a_rate_and_operator_events(pages: PagesUnderTest) -> None:
    """The forms of an admin offer operator events; a wrong rate is shown at its field, and nothing is stored."""
    await pages.application.keys.renew()
    url = "https://hooks.example/endpoint"
    refused = await pages.post("/endpoints", url=url, rate="fast", newest="")
    assert refused.status_code == 422
    assert "like 30/s" in refused.text
    assert "service.dead_letters" not in (await pages.get("/endpoints", "ann")).text
    made = await pages.post(
        "/endpoints", url=url, rate="30/s", events=["service.dead_letters", "task.failed"], newest=""
    )
    assert made.status_code == 201
    [endpoint] = await pages.application.delivery_parts.endpoints.listed(client=None, limit=9, cursor=None)
    assert (endpoint.rate, endpoint.events) == ("30/s", ("service.dead_letters", "task.failed"))
    assert "30/s at most" in (await pages.get(f"/endpoints/{endpoint.id}")).text


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/deliveries/circuits/c1", {}),
        ("/endpoints", {"url": "https://hooks.example/endpoint", "rate": "", "newest": ""}),
    ],
)
async def test_no_page_changes_anything_without_an_entry(
    pages: PagesUnderTest, path: str, fields: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the entry of the audit log cannot be stored, the action is not carried out."""
    await pages.application.keys.renew()
    await add_circuit(pages, "c1")

    async def fail(_log: SqlAuditLog, _entry: AuditEntry) -> int:
        raise StoreUnavailable("locked")

    monkeypatch.setattr(SqlAuditLog, "add", fail)
    assert (await pages.post(path, **fields)).status_code == 503
    left = (await pages.get("/deliveries/circuits?format=json")).json()["data"]
    assert [row["key"] for row in left] == ["c1"]
    assert not await pages.application.delivery_parts.endpoints.listed(client=None, limit=9, cursor=None)
