"""Statements of PostgreSQL that share a round trip: their order, their errors, and what is left after them."""

from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.domain.task import TaskId
from service.storage import Store, pg_driver
from service.storage.bulk_writes import insert_many, update_many
from service.storage.deferred import Deferred, defer
from service.storage.pg_driver import Session
from service.storage.tables import inbox
from tests.storage.builders import HOUR, NOW, a_delivery, a_task, add_tasks, an_entry, an_event, stored

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

COUNT = text("SELECT count(*) FROM inbox")
ROW = vars(an_entry("d1", verdict="unread"))


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets, for each round trip, the number of statements that were deferred until then."""
    found: list[int] = []
    original = Session.after_deferred

    def counted(session: Session) -> AbstractAsyncContextManager[None]:
        found.append(len(session._deferred))
        return original(session)

    monkeypatch.setattr(Session, "after_deferred", counted)
    return found


@pytest.fixture(params=[True, False], ids=["pipeline", "without pipeline"], autouse=True)
def supported(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run each test with a libpq that has pipelines, and with an old one."""
    if not request.param:
        monkeypatch.setattr(psycopg.AsyncPipeline, "is_supported", lambda: False)
    return bool(request.param)


async def test_update_of_a_task_takes_two_round_trips(store: Store, trips: list[int]) -> None:
    """BEGIN and the locks are one; the changes, the notification and COMMIT are the other; no ping is."""
    await add_tasks(store, a_task("t1"))
    trips.clear()
    async with store.units_of_work.transaction() as transaction:
        (task,) = (await transaction.lock([TaskId("t1")])).values()
        await transaction.save([replace(task, note="changed")])
        await transaction.append([an_event("e1", task_id=TaskId("t1"))], [])
        transaction.notify(["events"])
    assert trips == [3, 4]
    assert (await stored(store, "t1")).note == "changed"


async def test_callback_takes_two_round_trips(store: Store, trips: list[int]) -> None:
    """Its locks, itself and the endpoints; its event, the delivery with its lease, and COMMIT."""
    await add_tasks(store, a_task("t1"))
    event = an_event("e1")
    trips.clear()
    async with store.units_of_work.transaction() as transaction:
        _, verdicts = await transaction.receive([TaskId("t1")], [an_entry()])
        assert await transaction.endpoints_of({"anna"}) == []
        claims = await transaction.append([event], [a_delivery(event, leased_until=NOW + HOUR)])
    (claim,) = claims()
    assert (verdicts, claim.event, trips) == (["new"], event, [4, 4])


async def test_connection_that_was_idle_is_pinged(
    store: Store, trips: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a pause, its server may be gone without a word."""
    await add_tasks(store, a_task("t1"))
    monkeypatch.setattr(pg_driver, "QUIET_SECONDS", 0.0)
    trips.clear()
    assert await store.inbox.unread_since() is None
    assert trips == [0, 1, 0]  # the ping, BEGIN with the query, COMMIT


async def test_transaction_of_deferred_statements_commits(store: Store) -> None:
    """A transaction that never asked for a result is begun and committed all the same."""
    async with store._database.writing() as write:
        await insert_many(write.connection, inbox, [ROW])
    async with store._database.writing() as write:
        await update_many(write.connection, inbox, [{"digest": "d1", "verdict": "accepted"}])
        assert (await write.connection.execute(text("SELECT verdict FROM inbox"))).scalar_one() == "accepted"


async def test_transaction_without_statements_sends_nothing(store: Store, trips: list[int]) -> None:
    """BEGIN is not sent for its own sake, and is not left to the next user of the connection."""
    async with store._database.writing():
        trips.clear()
    assert trips == []
    await store.inbox.store_unread([an_entry("d1", verdict="unread")])
    assert await store.inbox.unread_since() is not None


@pytest.mark.parametrize("reads", [True, False], ids=["next statement", "commit"])
async def test_error_of_a_deferred_statement_is_raised(store: Store, reads: bool) -> None:
    """It is raised by the next statement or by the commit, and nothing of its transaction stays."""

    async def fail() -> None:
        async with store._database.writing() as write:
            await insert_many(write.connection, inbox, [ROW])
            defer(write.connection, Deferred(statement="SELECT %s::int", parameters=("secret",)))
            await insert_many(write.connection, inbox, [ROW | {"digest": "d2"}])
            if reads:
                await write.connection.execute(COUNT)

    with pytest.raises(DBAPIError) as error:
        await fail()
    assert isinstance(error.value.orig, psycopg.DataError)
    async with store._database.reading() as connection:
        assert (await connection.execute(COUNT)).scalar_one() == 0
    async with store._database.writing() as write:  # the connection is as good as before
        await insert_many(write.connection, inbox, [ROW])
    async with store._database.reading() as connection:
        assert (await connection.execute(COUNT)).scalar_one() == 1


async def test_rolled_back_transaction_runs_nothing(store: Store) -> None:
    """What was deferred is dropped with its transaction."""

    async def fail() -> None:
        async with store._database.writing() as write:
            await insert_many(write.connection, inbox, [ROW])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with store._database.writing() as write:
        assert (await write.connection.execute(COUNT)).scalar_one() == 0
