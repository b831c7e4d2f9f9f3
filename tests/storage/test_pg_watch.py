"""A database that vanishes without closing its connections, or leads to another server for a while."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
from sqlalchemy import make_url, text

from service.domain.errors import StoreUnavailable
from service.domain.task import TaskId
from service.storage import Store, migrate, open_store, pg_listener, pg_watch
from tests.storage.builders import admitted, an_entry
from tests.storage.conftest import Server
from tests.support.postgres import create_database, drop_database, postgres_server
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

ANSWER_WITHIN = 5.0
"""Seconds within which a callback is answered, whatever the database does."""


@pytest.fixture
def url(postgres: Server) -> Iterator[str]:
    """Yield the address of a migrated database."""
    url = create_database(postgres.base_url, template=postgres.template)
    yield url
    drop_database(postgres.base_url, url)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notice a silent database soon."""
    monkeypatch.setattr(pg_watch, "SLOW_AFTER", 0.3)
    monkeypatch.setattr(pg_watch, "PROBE_TIMEOUT", 1.0)
    monkeypatch.setattr(pg_watch, "AWAY_INTERVAL", 0.1)
    monkeypatch.setattr(pg_listener, "RECONNECT_DELAY", 0.1)


@asynccontextmanager
async def behind_proxy(url: str) -> AsyncIterator[tuple[Store, TcpProxy]]:
    """Yield a store whose connections go through a proxy."""
    async with tcp_proxy(url) as proxy, open_store(proxy.address(url)) as store:
        yield store, proxy


async def admit(store: Store, digest: str) -> list[str]:
    """Store a callback; return whether it is new."""
    async with store.units_of_work.transaction() as transaction:
        return await admitted(transaction, [an_entry(digest)])


async def admit_when_possible(store: Store, digest: str) -> None:
    """Repeat a callback until it is stored, as a provider does."""
    async with asyncio.timeout(60):
        while True:
            with suppress(StoreUnavailable):
                assert await admit(store, digest) in (["new"], ["repeated"])
                return
            await asyncio.sleep(0.05)


def test_limits_leave_time_for_the_answer() -> None:
    """Noticing a silent database takes less time than a callback may take."""
    assert pg_watch.SLOW_AFTER + pg_watch.PROBE_TIMEOUT + pg_watch.END_GRACE < ANSWER_WITHIN - 1


@pytest.mark.usefixtures("short_waits")
async def test_silent_database_fails_everything_and_recovers(url: str) -> None:
    """Reads, writes and waiting writers fail together; later ones at once; all succeed when bytes flow again."""
    async with behind_proxy(url) as (store, proxy):
        await admit(store, "d")
        proxy.freeze()
        waiting = [admit(store, f"d{number}") for number in range(12)]
        reading = store.queries.task(TaskId("t1"))
        async with asyncio.timeout(30):  # far below the 90 seconds of a transaction
            outcomes = await asyncio.gather(*waiting, reading, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
        before = proxy.accepted
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await admit(store, "e")
        assert proxy.accepted <= before + 1  # no operation has tried: at most the next probe has
        assert await store.health.ready() == "the database does not answer"
        proxy.thaw()
        await admit_when_possible(store, "e")
        assert await store.health.ready() is None


@pytest.mark.usefixtures("short_waits")
async def test_lost_flows_are_replaced_while_new_ones_work(url: str) -> None:
    """Connections that a proxy has abandoned are replaced, and only those."""
    async with behind_proxy(url) as (store, proxy):
        await admit(store, "d")
        proxy.abandon()
        await admit_when_possible(store, "e")
        assert await admit(store, "f") == ["new"]


@pytest.mark.usefixtures("short_waits")
async def test_locks_of_lost_connections_are_released(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server cannot notice the loss: its session is terminated, and does not keep its locks."""
    monkeypatch.setattr(pg_watch, "PROBE_AGAIN", 0.3)
    locked = asyncio.Event()
    async with behind_proxy(url) as (store, proxy):

        async def hold() -> None:
            async with store._database.writing() as write:
                await write.connection.execute(text("SELECT pg_advisory_xact_lock(7)"))
                locked.set()
                await asyncio.sleep(0.1)
                await write.connection.execute(text("SELECT 1"))

        holding = asyncio.create_task(hold())
        await locked.wait()
        proxy.abandon()
        with pytest.raises(StoreUnavailable):
            await holding
        async with asyncio.timeout(5), open_store(url) as other, other._database.writing() as write:
            await write.connection.execute(text("SELECT pg_advisory_xact_lock(7)"))


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("age", [3600.0, -3600.0], ids=["newer", "older"])
async def test_session_with_the_number_of_a_lost_one_is_left_alone(url: str, age: float) -> None:
    """The number of a lost session may be that of a newer one, or of an older one on another server."""
    async with open_store(url) as store, store._database.writing() as write:
        pid = (await write.connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        watch = store._database._watch
        assert watch is not None
        watch._lost_sessions[pid] = time.monotonic() - age
        await watch._end_lost_sessions()
        assert (await write.connection.execute(text("SELECT 1"))).scalar_one() == 1


@pytest.mark.usefixtures("short_waits")
async def test_slow_statement_is_left_alone(url: str) -> None:
    """While the server answers others, a statement may take long."""
    async with behind_proxy(url) as (store, proxy):
        async with store._database.writing() as write:
            await write.connection.execute(text("SELECT pg_sleep(1.5)"))
        assert proxy.accepted >= 2  # it was asked


@pytest.mark.usefixtures("short_waits")
async def test_refused_connections_end_the_wait(url: str) -> None:
    """Where nothing accepts a new connection, an old one that is silent is replaced."""
    async with behind_proxy(url) as (store, proxy):
        await admit(store, "d")
        proxy.abandon()
        proxy.target = 1  # where nothing listens
        async with asyncio.timeout(30):
            with pytest.raises(StoreUnavailable):
                await admit(store, "e")
        proxy.target = make_url(url).port or 0
        await admit_when_possible(store, "e")


@pytest.mark.usefixtures("short_waits")
async def test_failover_to_a_standby_and_on(url: str) -> None:
    """While the address leads to a standby writes fail; at the new primary they succeed without a restart."""
    with postgres_server() as primary:
        url = create_database(primary.url)
        await migrate(url)
        with postgres_server(primary_url=primary.url) as standby:
            async with behind_proxy(url) as (store, proxy), store.listening():
                await admit(store, "d")
                proxy.switch(standby.url)
                with pytest.raises(StoreUnavailable):
                    await _fail(store)
                assert "read-only" in str(await store.health.ready())
                proxy.switch(primary.url, cut=False)  # connections to the standby stay open
                await admit_when_possible(store, "e")
                assert await store.health.ready() is None


async def _fail(store: Store) -> None:
    for number in range(8):
        with suppress(StoreUnavailable):
            await admit(store, f"f{number}")
    await admit(store, "g")


async def test_read_only_default_discards_connections(url: str, postgres: Server) -> None:
    """Sessions that began while the database was read-only are not used once it is writable again."""
    name = make_url(url).database
    async with open_store(postgres.base_url) as admin:

        async def set_default(value: str) -> None:
            async with admin._database.writing() as write:
                await write.connection.execute(
                    text(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
                )

        await set_default("on")
        async with open_store(url) as store:
            for digest in ("a", "b"):
                with pytest.raises(StoreUnavailable, match="read-only"):
                    await admit(store, digest)
            await set_default("off")
            with suppress(StoreUnavailable):
                await admit(store, "c")
            assert await admit(store, "d") == ["new"]
