"""Endpoints on each database: events of a client's tasks are delivered to its standing addresses."""

import json
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import select

from service.domain.endpoint import DELETED
from service.domain.errors import Conflict, NotFound
from service.domain.key_ring import KeyRing
from service.storage import Store
from service.storage.tables import watched_tasks
from service.tasks.endpoints import EndpointChanges
from tests.support.endpoint_builders import KEY, OTHER_SECRET, SECRET, URL, endpoint_use_cases
from tests.support.endpoint_harness import Harness

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def harness(store: Store) -> Harness:
    """Return a process over an empty database."""
    return Harness(store=store)


async def test_event_is_delivered_signed(harness: Harness) -> None:
    """Every event of the client's tasks is posted to the address, signed with the endpoint's own secret."""
    endpoint = await harness.endpoints.create()
    [task] = await harness.tasks()
    await harness.submit(task)
    await harness.complete(task)
    assert await harness.run() == 2
    types = [body["type"] for body in harness.receivers.verified(SECRET)]
    assert types == ["task.submitted", "task.completed"]
    assert {str(request.url) for request in harness.receivers.requests} == {URL}
    found = await harness.deliveries()
    assert {(each.status, each.endpoint_id, each.requested) for each in found} == {("delivered", endpoint.id, True)}


async def test_other_clients_get_nothing(harness: Harness) -> None:
    """An endpoint gets the events of its own client only."""
    await harness.endpoints.create("berta")
    [task] = await harness.tasks(client="anna")
    await harness.submit(task)
    assert await harness.run() == 0


async def test_event_filter(harness: Harness) -> None:
    """An endpoint with names of events gets these alone, and a change applies to the next event."""
    endpoint = await harness.endpoints.create(events=["task.completed"])
    first, second = await harness.tasks(2)
    await harness.submit(first)
    await harness.complete(first)
    await harness.run()
    await harness.endpoints.service.change(endpoint, EndpointChanges(given={"events": ["task.submitted"]}))
    await harness.submit(second)
    await harness.complete(second)
    await harness.run()
    assert [json.loads(each.content)["type"] for each in harness.receivers.requests] == [
        "task.completed",
        "task.submitted",
    ]


async def test_changed_address_and_secret_apply_to_what_waits(harness: Harness) -> None:
    """A delivery reads the endpoint at its attempt."""
    endpoint = await harness.endpoints.create()
    [task] = await harness.tasks()
    await harness.submit(task)
    changed = await harness.endpoints.service.change(
        endpoint, EndpointChanges(given={"url": "https://new.example/hook", "headers": {"X-Key": "of-anna"}})
    )
    await harness.endpoints.service.rotate(changed, OTHER_SECRET, timedelta())
    await harness.run()
    [request] = harness.receivers.requests
    assert (str(request.url), request.headers["x-key"]) == ("https://new.example/hook", "of-anna")
    assert harness.receivers.verified(OTHER_SECRET)


async def test_paused_endpoint_waits_and_spends_nothing(harness: Harness) -> None:
    """Deliveries from before and during the pause wait without an attempt, and are made in order once it is over."""
    endpoint = await harness.endpoints.create()
    first, second = await harness.tasks(2)
    await harness.submit(first)
    endpoint = await harness.endpoints.service.change(endpoint, EndpointChanges(given={"paused": True}))
    await harness.complete(first)
    await harness.submit(second)
    assert await harness.run() == 1  # it was due, found the pause and was held
    assert await harness.run(move=3 * DAY) == 0
    found = await harness.deliveries("pending")
    assert [(each.attempts, each.due_at) for each in found] == [(0, None)] * 3
    await harness.endpoints.service.change(endpoint, EndpointChanges(given={"paused": False}))
    await harness.run()
    sent = [
        (json.loads(each.content)["data"]["task"]["id"], json.loads(each.content)["type"])
        for each in harness.receivers.requests
    ]
    assert [each for each in sent if each[0] == first] == [(first, "task.submitted"), (first, "task.completed")]
    assert len(sent) == 3
    assert len(await harness.attempts(first)) == 2


async def test_resume_beside_an_attempt_that_read_the_pause(harness: Harness) -> None:
    """A delivery that is held after the resume is woken by the job: nothing waits forever."""
    endpoint = await harness.endpoints.create()
    [task] = await harness.tasks()
    await harness.submit(task)
    await harness.store.endpoints.change(endpoint.id, {"paused": True})
    await harness.run()
    await harness.store.endpoints.change(endpoint.id, {"paused": False})
    assert await harness.run() == 0
    assert await harness.endpoints.service.wake() == 1
    assert await harness.run() == 1


async def test_deleted_endpoint_drops_what_waits(harness: Harness) -> None:
    """Its pending deliveries end with the reason, held ones too, and later events make none."""
    endpoint = await harness.endpoints.create()
    first, second = await harness.tasks(2)
    await harness.submit(first)
    await harness.endpoints.service.remove(endpoint.id)
    await harness.submit(second)
    assert await harness.run(move=DAY) == 0
    [found] = await harness.deliveries()
    assert (found.status, found.last_error, found.fault) == ("dead", DELETED, "destination")
    with pytest.raises(NotFound):
        await harness.endpoints.service.get(endpoint.id)


async def test_delivery_that_was_leased_at_the_deletion_is_dropped_by_its_attempt(harness: Harness) -> None:
    """The receiver gets nothing more, and a replay says the same."""
    endpoint = await harness.endpoints.create()
    harness.receivers.answer = lambda _: httpx.Response(500)
    [task] = await harness.tasks()
    await harness.submit(task)
    await harness.run()
    [row] = await harness.deliveries()
    async with harness.store._database.writing() as write:  # as if an attempt were running
        await write.connection.exec_driver_sql("UPDATE deliveries SET leased_until = due_at")
    await harness.endpoints.service.remove(endpoint.id)
    await harness.run(move=DAY)
    await harness.run(move=DAY)
    [row] = await harness.deliveries()
    assert row.status == "dead"
    assert DELETED in str(row.last_error)
    assert len(harness.receivers.requests) == 1


async def test_client_has_few_endpoints(harness: Harness) -> None:
    """The 51st is refused; another client's do not count."""
    for _ in range(50):
        await harness.endpoints.create("anna")
    await harness.endpoints.create("berta")
    with pytest.raises(Conflict, match="at most 50"):
        await harness.endpoints.create("anna")


async def test_gauge_counts_states(harness: Harness) -> None:
    """Active, paused and disabled endpoints are counted for the metrics."""
    await harness.endpoints.create()
    paused, gone = await harness.endpoints.create(), await harness.endpoints.create()
    await harness.store.endpoints.change(paused.id, {"paused": True})
    await harness.store.endpoints.change(gone.id, {"paused": True, "disabled_at": harness.clock.now()})
    gauges = await harness.store.health.gauges(harness.clock.now())
    assert gauges.endpoints == {"active": 1, "paused": 1, "disabled": 1}


async def test_secrets_are_sealed_again_with_a_new_key(harness: Harness, store: Store) -> None:
    """An endpoint outlives the signing key that sealed it, and replaced secrets are erased once they do not sign."""
    endpoint = await harness.endpoints.create(headers={"X-Key": "of-anna"})
    await harness.endpoints.service.rotate(endpoint, OTHER_SECRET, HOUR)
    both = endpoint_use_cases(store, harness.clock, keys=KeyRing(["new" * 14, KEY]))
    assert await both.service.seal_again() == 1
    assert await both.service.seal_again() == 0
    harness.clock.move(2 * HOUR)
    new = endpoint_use_cases(store, harness.clock, keys=KeyRing(["new" * 14]))
    assert await new.service.seal_again() == 1
    found = await new.service.get(endpoint.id)
    target = new.targets.target(found.id, found.url, found.sealed)
    assert (target["secrets"], target["headers"]) == ([OTHER_SECRET], {"X-Key": "of-anna"})
    assert SECRET not in new.service.sealer.open_text(found.sealed)


async def test_two_changes_at_once_lose_none(harness: Harness) -> None:
    """A rotation beside another one is refused: its secret would never sign."""
    endpoint = await harness.endpoints.create()
    await harness.endpoints.service.rotate(endpoint, OTHER_SECRET, HOUR)
    with pytest.raises(Conflict, match="changed by another request"):
        await harness.endpoints.service.rotate(endpoint, "whsec_" + "C" * 32, HOUR)


async def test_endpoint_that_names_progress_watches_tasks(harness: Harness) -> None:
    """One that asks for progress by name makes its client's tasks be polled for it; one for all events does not."""
    for events, watched in ((None, 0), (["task.progressed"], 1)):
        await harness.endpoints.create(events=events)
        [task] = await harness.tasks()
        await harness.submit(task)
        async with harness.store._database.reading() as connection:
            rows = await connection.execute(select(watched_tasks.c.task_id))
            assert list(rows.scalars()) == [task] * watched


async def test_list_is_newest_first_and_pages(harness: Harness) -> None:
    """Of one client, or of all, with a cursor."""
    ids = []
    for client in ("anna", "berta", "anna"):
        harness.clock.move(MINUTE)
        ids.append((await harness.endpoints.create(client)).id)
    service = harness.endpoints.service
    assert [each.id for each in await service.listed(client=None, limit=9, cursor=None)] == ids[::-1]
    assert [each.id for each in await service.listed(client="anna", limit=9, cursor=None)] == [ids[2], ids[0]]
    assert [each.id for each in await service.listed(client=None, limit=1, cursor=ids[2])] == [ids[1]]


async def test_clients_need_the_webhook_handler(harness: Harness) -> None:
    """Where NOTIFY_HANDLERS lacks it, a client neither makes an endpoint nor moves one; an admin does both."""
    service = harness.endpoints.service
    service.is_admin = {"root"}.__contains__
    before = await harness.endpoints.create("anna")
    service.for_clients = False
    elsewhere = EndpointChanges(given={"url": "https://other.example.org/"})
    with pytest.raises(Conflict, match="BOOMERANG_NOTIFY_HANDLERS"):
        await harness.endpoints.create("anna")
    with pytest.raises(Conflict, match="BOOMERANG_NOTIFY_HANDLERS"):
        await service.change(before, elsewhere)
    assert (await service.change(before, EndpointChanges(given={"paused": True}))).paused
    assert (await service.change(await harness.endpoints.create("root"), elsewhere)).url == elsewhere.given["url"]
