"""The pages of circuits, and what endpoints have of rates and operator events."""

import re

import pytest

from service.domain.errors import StoreUnavailable
from service.domain.ports.audit import AuditEntry
from service.storage.audit_log import SqlAuditLog
from service.storage.control_tables import circuits
from service.storage.dialects import insert
from tests.storage.builders import a_delivery, a_task, add_tasks, an_attempt, an_event, claim_deliveries
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


async def test_front_page_has_open_circuits_of_many(pages: PagesUnderTest) -> None:
    """Destinations that have asked to wait push no open circuit from the page; of many it shows five and says so."""
    for number in range(6):
        await add_circuit(pages, f"a{number}", host=f"busy{number}.example", state="busy")
    await add_circuit(pages, "z0", host="open0.example")
    titles = [item["title"] for item in (await pages.get("/?format=json")).json()["attention"]]
    assert titles == ["Open circuit: open0.example of ann"]
    for number in range(1, 6):
        await add_circuit(pages, f"z{number}", host=f"open{number}.example")
    items = (await pages.get("/?format=json")).json()["attention"]
    assert [item["title"] for item in items[4:]] == ["Open circuit: open4.example of ann", "More open circuits"]


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


async def test_endpoint_leads_to_its_own_dead_letters(pages: PagesUnderTest) -> None:
    """The link has the deliveries to that endpoint alone; a page without attempts explains that tests are none."""
    await pages.application.keys.renew()
    await pages.post("/endpoints", url="https://hooks.example/endpoint", rate="", newest="")
    [endpoint] = await pages.application.delivery_parts.endpoints.listed(client=None, limit=9, cursor=None)
    await add_tasks(pages.store, a_task("t1"))
    rows = {"e1": endpoint.id, "e2": None, "e3": "another"}
    async with pages.store.units_of_work.transaction() as transaction:
        events = [an_event(each) for each in rows]
        await transaction.append(events, [a_delivery(each, "webhook", endpoint_id=rows[each.id]) for each in events])
    for claim in await claim_deliveries(pages.store, "webhook"):
        await pages.store.deliveries.finish([an_attempt(claim, "dead", fault="destination")])
    page = (await pages.get(f"/endpoints/{endpoint.id}")).text
    assert "A test event does not count as one." in page
    [link] = re.findall(r'href="(/deliveries[?]endpoint=[^"]*)"', page)
    listed = await pages.get(link)
    assert re.findall('data-row="([^"]*)"', listed.text) == ["e1-webhook"]
    every = await pages.get(f"/deliveries?status=all&endpoint={endpoint.id}")
    assert re.findall('data-row="([^"]*)"', every.text) == ["e1-webhook"]
    assert "Replay all that match" not in listed.text  # it would replay those of other endpoints too
    assert f'name="endpoint" value="{endpoint.id}"' in listed.text


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
