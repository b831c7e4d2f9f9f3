"""The health of endpoints on each database: what attempts say, and when an endpoint is disabled."""

import asyncio
import sys
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from service.domain.circuit import PARKED_FOR
from service.domain.endpoint import DISABLE_AFTER, EndpointHealth
from service.domain.errors import Conflict
from service.domain.ports.queues import AttemptResult
from service.storage import Store
from service.storage.endpoint_health import note_attempts
from service.tasks.endpoints import EndpointChanges
from tests.support.endpoint_harness import Harness
from tests.support.wait_until_idle import ended

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def harness(store: Store) -> Harness:
    """Return a process over an empty database."""
    return Harness(store=store)


def _refused(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("connection refused")


def _answer(status: int, _: httpx.Request) -> httpx.Response:
    return httpx.Response(status)


async def test_failures_and_a_success(harness: Harness) -> None:
    """The last failure has its status and error; a success ends the failures, and both are counted."""
    endpoint = await harness.endpoints.create()
    [task] = await harness.tasks()
    await harness.submit(task)
    harness.receivers.answer = lambda _: httpx.Response(503, text="no space")
    began = harness.clock.now()
    await harness.run()
    harness.receivers.answer = _refused
    await harness.run(move=6 * MINUTE / 60)
    health = (await harness.endpoints.service.get(endpoint.id)).health
    assert (health.consecutive_failures, health.failing_since, health.recent) == (2, began, "--")
    assert (health.last_failure_status, health.last_success_at) == (None, None)
    assert "could not be reached" in str(health.last_failure_error)
    harness.receivers.answer = lambda _: httpx.Response(200)
    await harness.run(move=MINUTE)
    health = (await harness.endpoints.service.get(endpoint.id)).health
    assert (health.consecutive_failures, health.failing_since, health.recent) == (0, None, "--+")
    assert health.last_success_at == harness.clock.now()


async def test_attempts_of_one_commit_count_by_their_times(harness: Harness) -> None:
    """A success that is stored together with an earlier failure ends it, in whatever order they come."""
    endpoint, now = await harness.endpoints.create(), harness.clock.now()
    leased: Any = SimpleNamespace(endpoint_id=endpoint.id)

    def ended(error: str | None, at: datetime) -> AttemptResult:
        outcome: Any = "retry" if error else "delivered"
        return AttemptResult(
            delivery_id="d",
            fence=1,
            attempt=1,
            started_at=at,
            finished_at=at,
            outcome=outcome,
            error=error,
            about_destination=True,
        )

    results = [ended(None, now + MINUTE), ended("ReadTimeout", now)]
    async with harness.store._database.writing() as write:
        await note_attempts(write.connection, [(leased, result) for result in results])
    health = (await harness.endpoints.service.get(endpoint.id)).health
    assert (health.recent, health.consecutive_failures) == ("-+", 0)


async def test_first_kibibyte_of_each_answer_is_kept(harness: Harness) -> None:
    """The history has the status and the beginning of the body, of a failure and of a success."""
    await harness.endpoints.create()
    [task] = await harness.tasks()
    await harness.submit(task)
    harness.receivers.answer = lambda _: httpx.Response(500, content=b"\xffoops\x00" + b"x" * 5000)
    await harness.run()
    harness.receivers.answer = lambda _: httpx.Response(200, text="thanks")
    await harness.run(move=MINUTE)
    first, second = await harness.attempts(task)
    assert (first["answer_status"], first["answer_body"][:7], len(first["answer_body"])) == (500, "\ufffdoops x", 1024)
    assert (second["answer_status"], second["answer_body"]) == (200, "thanks")


async def test_gone_disables_at_once(harness: Harness) -> None:
    """After a 410 nothing more is sent: what waits dies with the reason, and new events make no delivery."""
    endpoint = await harness.endpoints.create()
    harness.receivers.answer = lambda _: httpx.Response(410)
    first, second, third = await harness.tasks(3)
    await harness.submit(first)
    await harness.run()
    found = await harness.endpoints.service.get(endpoint.id)
    assert (found.disabled_at, found.disabled_reason) == (harness.clock.now(), "gone")
    await harness.submit(second)
    assert await harness.run() == 0
    assert len(await harness.deliveries()) == 1
    await harness.endpoints.service.change(found, EndpointChanges(given={"disabled": False}))
    harness.receivers.answer = lambda _: httpx.Response(204)
    await harness.submit(third)
    await harness.run()
    assert [each.status for each in await harness.deliveries()] == ["delivered", "dead"]


async def test_attempt_that_began_before_a_change_does_not_disable(harness: Harness) -> None:
    """A receiver was gone, the endpoint was enabled again meanwhile: the late answer says nothing about it now."""
    endpoint = await harness.endpoints.create()
    late = harness.receivers.gates[httpx.URL(endpoint.url).host] = asyncio.Event()
    harness.receivers.answer = partial(_answer, 410)
    await harness.submit(*await harness.tasks())
    await harness.dispatcher.run_once()
    async with asyncio.timeout(30):
        await harness.receivers.held.wait()
    await harness.endpoints.service.change(endpoint, EndpointChanges(given={"description": "it works again"}))
    late.set()
    await ended(harness.dispatcher)
    found = await harness.endpoints.service.get(endpoint.id)
    assert (found.disabled_at, found.health) == (None, EndpointHealth())
    await harness.submit(*await harness.tasks())
    await harness.run()
    assert (await harness.endpoints.service.get(endpoint.id)).disabled_reason == "gone"


async def test_days_of_failures_only_disable(harness: Harness) -> None:
    """Every attempt failed for five days: it is disabled, and what waits for it dies without an attempt."""
    endpoint = await harness.endpoints.create()
    harness.receivers.answer = lambda _: httpx.Response(500)
    began = harness.clock.now()
    while not (found := await harness.endpoints.service.get(endpoint.id)).disabled_at:
        [task] = await harness.tasks()
        await harness.submit(task)
        await harness.run()
        await harness.run(move=7 * HOUR)
        assert harness.clock.now() - began < 2 * DISABLE_AFTER
    assert (found.disabled_at - began >= DISABLE_AFTER, found.disabled_reason) == (True, "failing")
    sent = len(harness.receivers.requests)
    while await harness.deliveries("pending"):
        await harness.run(move=PARKED_FOR)  # without a pause that would not count as waiting
        assert harness.clock.now() - found.disabled_at < 2 * DAY
    assert len(harness.receivers.requests) == sent
    assert any("the endpoint is disabled" in str(each.last_error) for each in await harness.deliveries("dead"))


async def test_one_success_in_days_keeps_it(harness: Harness) -> None:
    """An endpoint that accepts some events is not disabled, whatever else fails."""
    endpoint = await harness.endpoints.create()
    for day in range(8):
        harness.receivers.answer = partial(_answer, 204 if day == 4 else 500)
        [task] = await harness.tasks()
        await harness.submit(task)
        await harness.run()
        await harness.run(move=DAY)
    assert (await harness.endpoints.service.get(endpoint.id)).disabled_at is None


async def test_rare_events_do_not_disable(harness: Harness) -> None:
    """Two failures a fortnight apart are no days of failures: nothing was tried between them."""
    endpoint = await harness.endpoints.create()
    harness.receivers.answer = lambda _: httpx.Response(500)
    for _ in range(3):
        [task] = await harness.tasks()
        await harness.submit(task)
        for pause in (0, 1, 1, 5, 20, 60, 300, 500, 1300):
            await harness.run(move=pause * MINUTE)
        await harness.run(move=14 * DAY)
    found = await harness.endpoints.service.get(endpoint.id)
    assert (found.disabled_at, found.health.consecutive_failures > 10) == (None, True)


async def test_faults_of_this_service_do_not_count(harness: Harness) -> None:
    """A secret that no key opens is a fault of this service: the endpoint's health says nothing of it."""
    endpoint = await harness.endpoints.create()
    await harness.store.endpoints.change(endpoint.id, {"sealed": "gAAAA"})
    [task] = await harness.tasks()
    await harness.submit(task)
    await harness.run()
    [row] = await harness.deliveries()
    assert (row.status, "SECRET_KEYS" in str(row.last_error)) == ("pending", True)
    assert (await harness.endpoints.service.get(endpoint.id)).health.recent == ""


async def test_replay_finds_events_of_a_clock_that_is_ahead(harness: Harness) -> None:
    """Without an end in time, what another process has stored counts, whatever its clock says."""
    await harness.submit(*await harness.tasks(1))
    since = harness.clock.now() - HOUR
    harness.clock.move(-MINUTE)
    endpoint = await harness.endpoints.create()
    report = await harness.endpoints.missed.run(endpoint, since=since, until=None, cursor=None, dry_run=False)
    assert report.created == 1


async def test_replay_of_what_was_missed(harness: Harness) -> None:
    """Events of the time of the pause, the disabling and before the endpoint existed come, each once, with one id."""
    early, *tasks = await harness.tasks(4)
    await harness.submit(early)
    harness.clock.move(HOUR)
    endpoint = await harness.endpoints.create()
    harness.receivers.answer = lambda _: httpx.Response(410)
    await harness.submit(tasks[0])
    await harness.run()  # dead, and disabled
    await harness.submit(tasks[1])  # without a delivery
    harness.receivers.answer = lambda _: httpx.Response(204)
    since, until = harness.clock.now() - 2 * HOUR, harness.clock.now() + MINUTE
    disabled = await harness.endpoints.service.get(endpoint.id)
    counted = await harness.endpoints.missed.run(disabled, since=since, until=until, cursor=None, dry_run=True)
    assert (counted.matched, counted.by_kind["dead"], counted.by_kind["without_delivery"]) == (3, 1, 2)
    with pytest.raises(Conflict, match="disabled"):
        await harness.endpoints.missed.run(disabled, since=since, until=until, cursor=None, dry_run=False)
    endpoint = await harness.endpoints.service.change(disabled, EndpointChanges(given={"disabled": False}))
    report = await harness.endpoints.missed.run(endpoint, since=since, until=until, cursor=None, dry_run=False)
    assert (report.created, report.replayed) == (2, 1)
    again = await harness.endpoints.missed.run(endpoint, since=since, until=until, cursor=None, dry_run=False)
    assert (again.created, again.replayed) == (0, 0)
    harness.receivers.requests.clear()
    await harness.run(move=MINUTE)
    assert len(harness.receivers.requests) == 3
    counted = await harness.endpoints.missed.run(endpoint, since=since, until=until, cursor=None, dry_run=True)
    assert counted.matched == 0


async def test_missed_events_are_bound_by_time_filter_and_client(harness: Harness) -> None:
    """Only events in the time, of the client, that the endpoint wants; a page at a time."""
    mine, later = await harness.tasks(2, client="anna")
    [other] = await harness.tasks(1, client="berta")
    for task in (mine, other):
        await harness.submit(task)
        await harness.complete(task)
    harness.clock.move(HOUR)
    since = harness.clock.now()
    await harness.submit(later)
    await harness.complete(later)
    harness.clock.move(HOUR)
    endpoint = await harness.endpoints.create(events=["task.completed"])
    found, after = [], None
    while True:
        page, after = await harness.store.endpoints.missed(
            endpoint, since=since, until=harness.clock.now(), after=after, limit=1
        )
        found += page
        if after is None:
            break
    assert [each.task_id for each in found] == [later]


async def test_destination_down_for_an_hour_gets_each_event_once(harness: Harness) -> None:
    """Once it is back each event comes once, with the id of its first attempt.

    The first one is a probe, and all others come right after it, whatever their schedule.
    """
    await harness.endpoints.create()
    tasks = await harness.tasks(20)
    harness.receivers.answer = _refused
    await harness.submit(*tasks)
    began = harness.clock.now()
    while harness.clock.now() - began < HOUR:
        await harness.run(move=MINUTE)
    failed = set(harness.receivers.ids())
    harness.receivers.answer = partial(_answer, 204)
    harness.receivers.requests.clear()
    came: list[timedelta] = []
    while await harness.deliveries("pending"):
        await harness.run(move=10 * MINUTE)
        came += [harness.clock.now() - began] * (len(harness.receivers.requests) - len(came))
    ids = harness.receivers.ids()
    assert len(ids) == len(set(ids)) == 20
    assert failed <= set(ids)
    sys.stdout.write(f"back after 1 h: the first one {came[0]}, the last one {came[-1]} after the events\n")
    assert came[0] <= HOUR + 10 * MINUTE
    assert came[-1] <= HOUR + 20 * MINUTE


async def test_enabling_a_working_endpoint_resets_no_count(harness: Harness) -> None:
    """Else repeated requests would keep one that always fails from being disabled (liwala/ay-framework#356)."""
    endpoint = await harness.endpoints.create()
    harness.receivers.answer = lambda _: httpx.Response(500)
    await harness.submit(*await harness.tasks(2))
    await harness.run()
    found = await harness.endpoints.service.get(endpoint.id)
    await harness.endpoints.service.change(
        found, EndpointChanges(given={"disabled": False, "url": f"{endpoint.url}/2"})
    )
    after = await harness.endpoints.service.get(endpoint.id)
    assert after.health == found.health
    assert after.health.consecutive_failures == 2
