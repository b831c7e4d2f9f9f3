"""Operator events: each condition is reported once, by whichever process, and reaches each handler that asks for it."""

from datetime import datetime, timedelta
from typing import Any

import httpx

from service import Handlers, OperatorEvent, Retry, Tools
from service.deliveries.handler_api import Handler
from service.deliveries.handler_jobs import JobRunner
from service.deliveries.operator_handlers import OperatorEventQueue
from service.domain.operator_event import OperatorEventType
from service.domain.ports.unit_of_work import RunTime
from service.domain.provider_key import KeyAnswers
from service.domain.submission_limits import ClientLimit, Limits
from service.domain.task import Usage
from service.storage import Store
from service.storage.control_tables import operator_events
from service.tasks.key_watch import KeyWatch
from service.tasks.operator_watch import NEWEST, OperatorWatch
from tests.storage.builders import NOW, SECOND, a_task, add_deliveries, add_tasks, an_attempt, claim_deliveries
from tests.storage.conftest import OpenStore
from tests.support.delivery_builders import ManualClock, tools
from tests.support.endpoint_harness import Harness

LEASE = timedelta(minutes=1)


class Seen:
    """A handler of operator events; `error` is raised as long as it is set."""

    def __init__(self, *events: str) -> None:
        self.events: list[OperatorEvent] = []
        self.error: Exception | None = None
        module = Handlers()

        @module.on_operator_event(*events, name="ops")
        async def ops(event: OperatorEvent, tools: Tools) -> None:
            assert tools.attempt
            if self.error:
                raise self.error
            self.events.append(event)

        [self.handler] = list(module)

    @property
    def types(self) -> list[str]:
        """Return the types that have come."""
        return [event.type for event in self.events]


async def run(store: Store, clock: Any, *handlers: Handler) -> None:
    """Hand over what is new, and run the jobs that are due."""
    await OperatorEventQueue(handlers=handlers, events=store.operator_events, clock=clock).hand_over()
    runner = JobRunner(
        handlers=handlers,
        store=store.handler_jobs,
        tools=lambda _: tools(),
        clock=clock,
        lease=LEASE,
        signals=store.signals,
        jitter=lambda: 0.0,
    )
    for task in await runner.start_due():
        await task
    await runner.drain(0)


async def stored(store: Store) -> list[str]:
    """Return the types of all events."""
    async with store._database.reading() as connection:
        rows = await connection.execute(operator_events.select().order_by(operator_events.c.type))
        return [row.type for row in rows]


async def test_condition_is_reported_once_by_all_processes(store: Store, open_another: OpenStore) -> None:
    """Two processes that see the same have one event, which comes once to a handler, though both hand it over."""
    seen, other, clock = Seen(), open_another(), ManualClock(NOW)
    for process in (store, other, store):
        await process.operator_events.report(OperatorEventType.CALLBACKS_LOST, "today", {"lost": 7}, at=NOW)
    await OperatorEventQueue(handlers=[seen.handler], events=other.operator_events, clock=clock).hand_over()
    for _ in range(3):
        await run(store, clock, seen.handler)
    assert seen.types == ["service.callbacks_lost"]
    assert (seen.events[0].data, seen.events[0].at.replace(microsecond=0)) == ({"lost": 7}, NOW.replace(microsecond=0))
    await store.operator_events.report(OperatorEventType.CALLBACKS_LOST, "tomorrow", {}, at=NOW)
    await run(store, clock, seen.handler)
    assert len(seen.events) == 2


async def test_failed_handler_gets_the_event_again_and_then_it_is_a_failed_job(store: Store) -> None:
    """It is durable and retried; another handler is not affected, nor one that asks for other types."""
    failing, fine, others = Seen(), Seen(), Seen("service.budget_reached")
    failing.error = Retry("later")
    clock = ManualClock(NOW)
    await store.operator_events.report(OperatorEventType.DEAD_LETTERS, "c", {}, at=NOW)
    await run(store, clock, failing.handler)
    assert failing.events == []
    failing.error = None
    clock.at += 10 * SECOND
    await run(store, clock, failing.handler)
    assert failing.types == ["service.dead_letters"]
    await run(store, clock, others.handler)
    assert (others.events, fine.events) == ([], [])


async def test_circuit_that_opens_and_closes_is_reported(store: Store) -> None:
    """One event each, with what has failed and for how long."""
    harness, seen = Harness(store=store), Seen("service.circuit_opened", "service.circuit_closed")
    await harness.endpoints.create()
    harness.receivers.answer = lambda _: httpx.Response(500)
    await harness.submit(*await harness.tasks(9))
    await harness.run()
    await run(store, harness.clock, seen.handler)
    assert seen.types == ["service.circuit_opened"]
    opened = seen.events[0].data
    assert (opened["host"], opened["client"], opened["failures"] >= 5) == ("hooks.example.org", "anna", True)
    harness.receivers.answer = lambda _: httpx.Response(204)
    await harness.pass_time(timedelta(seconds=20))
    await run(store, harness.clock, seen.handler)
    assert seen.types == ["service.circuit_opened", "service.circuit_closed"]
    assert seen.events[1].data["open_seconds"] >= 5


async def test_disabled_endpoint_is_reported(store: Store) -> None:
    """An answer of 410 disables it, and makes dead letters, which are reported once an hour."""
    harness = Harness(store=store)
    endpoint = await harness.endpoints.create()
    harness.receivers.answer = lambda _: httpx.Response(410)
    await harness.submit(*await harness.tasks(3))
    await harness.run()
    seen = Seen()
    await run(store, harness.clock, seen.handler)
    found = {event.type: event.data for event in seen.events}
    assert found["service.endpoint_disabled"] == {"endpoint": endpoint.id, "client": "anna", "reason": "gone"}
    assert found["service.dead_letters"]["fault"] == "destination"
    assert len(seen.events) == 2


async def test_dead_letters_are_reported_once_an_hour_for_each_handler_and_fault(store: Store) -> None:
    """A flood of dead letters is one event; the next hour has another one."""
    for number, at in enumerate((NOW, NOW, NOW + timedelta(hours=1))):
        await add_deliveries(store, "log", events=[f"e{number}"], task_id=f"t{number}")
        [claim] = await claim_deliveries(store, now=at)
        await store.deliveries.finish([an_attempt(claim, "dead", fault="ours", finished_at=at)])
    assert await stored(store) == ["service.dead_letters"] * 2


async def test_overdue_task_is_reported(store: Store) -> None:
    """A task that expires is reported, once an hour for each client."""
    harness = Harness(store=store)
    await harness.loop.submitted()
    await harness.loop.submitted()
    harness.clock.move(timedelta(hours=3))
    await harness.loop.poll_due()
    assert await stored(store) == ["service.task_overdue"]


def watch(store: Store, **changes: Any) -> OperatorWatch:
    """Return a watch with a budget of 10 dollars, and 1 for anna."""
    limits = Limits(budget=10.0, client_budget=ClientLimit(exceptions={"anna": 1.0}))
    defaults: dict[str, Any] = {"requests": dict, "clock": ManualClock(NOW), "limits": limits, "callbacks": True}
    return OperatorWatch(
        events=store.operator_events, spending=store.tasks, stats=store.run_time_stats, **(defaults | changes)
    )


async def test_budgets_are_reported_at_80_and_100_percent(store: Store) -> None:
    """Once a day each, for all clients and for one."""
    spent = a_task("t1", submission=1, submitted_at=NOW, usage=Usage(cost="0.85"))
    await add_tasks(store, spent)
    assert [await watch(store).check() for _ in range(2)] == [1, 0]
    await add_tasks(store, a_task("t2", submission=1, submitted_at=NOW, usage=Usage(cost="7.5"), client="bob"))
    assert await watch(store).check() == 1
    await add_tasks(store, a_task("t3", submission=1, submitted_at=NOW, usage=Usage(cost="2.5")))
    assert await watch(store).check() == 2


async def test_rejected_key_is_reported_once_an_hour(store: Store) -> None:
    """Only refusals since the last check count, and only of requests that the provider refuses for the key alone."""
    requests: dict[tuple[str, str], int] = {("create", "refused"): 5, ("fetch", "ok"): 1}
    clock = ManualClock(NOW)
    looking = watch(store, requests=lambda: requests, clock=clock)
    assert await looking.check() == 0
    requests["fetch", "refused"] = 1
    assert await looking.check() == 1
    clock.at += timedelta(hours=1)
    assert await looking.check() == 0
    requests["fetch", "refused"] = 2
    assert await looking.check() == 1


async def test_lost_callbacks_are_reported_once_a_day(store: Store) -> None:
    """Half of the newest ended tasks without a callback, and only where callbacks are expected."""
    async with store.units_of_work.transaction() as transaction:
        await transaction.add_run_times(
            [RunTime(bucket="short", seconds=9.0, called_back=n % 2 > 0, at=NOW) for n in range(NEWEST)]
        )
    assert await watch(store, callbacks=False).check() == 0
    assert [await watch(store).check() for _ in range(2)] == [1, 0]
    assert await stored(store) == ["service.callbacks_lost"]


async def test_old_events_are_deleted(store: Store) -> None:
    """Those of a month ago, with who has got them."""
    seen, clock = Seen(), ManualClock(NOW)
    await store.operator_events.report(OperatorEventType.DEAD_LETTERS, "c", {}, at=NOW)
    await run(store, clock, seen.handler)
    clock.at += timedelta(days=31)
    queue = OperatorEventQueue(handlers=[seen.handler], events=store.operator_events, clock=clock)
    assert [await queue.prune(), await queue.hand_over()] == [1, 0]


async def test_rejected_key_needs_attention_until_a_request_succeeds(store: Store) -> None:
    """Every process sees since when; a process that was refused before its key was right does not bring it back."""

    async def since(client: str | None = None) -> datetime | None:
        return (await store.overview.attention(client, since=NOW)).key_rejected_since

    clock, old, new = ManualClock(NOW), KeyAnswers(), KeyAnswers()
    watches = [KeyWatch(answers=each, rejections=store.key_rejections, clock=clock) for each in (old, new)]
    assert [await each.check() for each in watches] == [0, 0]
    old.reject()
    assert ([await each.check() for each in watches], await since(), await since("ann")) == ([1, 0], NOW, None)
    clock.at += timedelta(hours=1)
    old.reject()
    assert ([await each.check() for each in watches], await since()) == ([0, 0], NOW)
    new.accept()
    assert ([await each.check() for each in watches], await since()) == ([0, 1], None)
    assert [await each.check() for each in watches] == [0, 0]
    assert await store.credit_pauses.current() is None
