"""The PostgreSQL listener: its log lines, and connections over which no notification arrives."""

import asyncio
from collections.abc import Iterator
from unittest.mock import AsyncMock, MagicMock

import psycopg
import pytest
import structlog
from structlog.testing import capture_logs
from structlog.typing import EventDict

from service.storage import open_store, pg_listener
from service.storage.pg_texts import UNHEARD_FIX
from tests.acceptance.processes import until
from tests.storage.builders import a_task, add_tasks
from tests.storage.conftest import Server
from tests.support import pgbouncer
from tests.support.postgres import create_database, drop_database
from tests.support.tcp_proxy import tcp_proxy


class Stop(BaseException):
    """Ends the endless loop of the listener."""


AWAY, REFUSED = psycopg.OperationalError("no\n  server"), psycopg.OperationalError("no entry")


def a_database() -> MagicMock:
    """Return a database that takes every write."""
    database = MagicMock()
    database.writing.return_value.__aenter__.return_value.connection = AsyncMock()
    return database


def lost_connection() -> MagicMock:
    """Return a subscription whose connection is lost at once."""
    made = MagicMock()
    made.__aenter__.return_value.notifies = MagicMock(side_effect=AWAY)
    made.__aexit__.return_value = False
    return made


async def test_reason_is_logged_once_until_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is down does not fill the log; after a connection the reason is logged again."""
    tries = [AWAY, AWAY, REFUSED, REFUSED, AWAY, lost_connection(), AWAY, Stop()]
    monkeypatch.setattr(pg_listener, "_subscribed", MagicMock(side_effect=tries))
    monkeypatch.setattr(pg_listener, "RECONNECT_DELAY", 0)
    with capture_logs() as lines:
        monkeypatch.setattr(pg_listener, "log", structlog.get_logger())
        with pytest.raises(Stop):
            await asyncio.wait_for(pg_listener._listen(a_database()), 10)
    assert [line["error"].partition(": ")[2] for line in lines] == ["no server", "no entry", "no server", "no server"]


@pytest.fixture
def url(postgres: Server) -> Iterator[str]:
    """Yield the address of a migrated database."""
    url = create_database(postgres.base_url, template=postgres.template)
    yield url
    drop_database(postgres.base_url, url)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EventDict]]:
    """Yield the log lines of the listener."""
    with capture_logs() as lines:
        monkeypatch.setattr(pg_listener, "log", structlog.get_logger())
        yield lines


@pytest.mark.skipif(pgbouncer.PROGRAM is None, reason=pgbouncer.REASON)
async def test_transaction_pooler_is_detected_and_logged_once(
    url: str, lines: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A note that does not arrive shows that LISTEN has no effect; the log says once how to fix it."""
    monkeypatch.setattr(pg_listener, "NOTE_TIMEOUT", 0.5)
    monkeypatch.setattr(pg_listener, "UNHEARD_DELAY", 0.01)
    attempts = MagicMock(wraps=pg_listener._subscribed)
    monkeypatch.setattr(pg_listener, "_subscribed", attempts)
    with pgbouncer.pgbouncer(url) as pooled:
        async with open_store(pooled) as store, store.listening():
            await until(lambda: attempts.call_count >= 3, what="the third attempt to listen")
    assert [line["hint"] for line in lines] == [UNHEARD_FIX]
    assert "BOOMERANG_DATABASE_LISTEN_URL" in UNHEARD_FIX


@pytest.mark.skipif(pgbouncer.PROGRAM is None, reason=pgbouncer.REASON)
async def test_direct_address_for_listening_wakes_through_a_pooler(url: str, lines: list[EventDict]) -> None:
    """With a direct address beside the pooled one, other processes wake this one, and nothing is logged."""
    with pgbouncer.pgbouncer(url) as pooled:
        async with (
            open_store(pooled, listen_url=url) as store,
            store.listening(),
            open_store(pooled) as other,
        ):
            await store.signals.wait("submit", 30)
            waiting = asyncio.create_task(store.signals.wait("submit", 30))
            await asyncio.sleep(0)
            await add_tasks(other, a_task())
            assert await waiting
    assert lines == []


async def test_listener_without_notifications_connects_again(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a silence a note must arrive; where it does not, the connection leads nowhere and is replaced."""
    monkeypatch.setattr(pg_listener, "NOTE_TIMEOUT", 0.5)
    monkeypatch.setattr(pg_listener, "NOTE_INTERVAL", 0.1)
    monkeypatch.setattr(pg_listener, "RECONNECT_DELAY", 0.05)
    async with tcp_proxy(url) as proxy, open_store(url, listen_url=proxy.address(url)) as store, store.listening():
        await store.signals.wait("submit", 30)
        proxy.abandon()
        await until(lambda: proxy.accepted >= 2, what="another connection that listens")
        await store.signals.wait("submit", 30)  # every connection announces everything


async def test_notes_reach_no_job(url: str) -> None:
    """A note is no topic, and what other programs send is ignored."""
    async with open_store(url) as store, store.listening():
        await store.signals.wait("submit", 30)
        with psycopg.connect(url, autocommit=True) as other:
            for payload in ('{"note": "x"}', "nonsense", "[1]", '["dispatch"]'):
                other.execute("SELECT pg_notify(%s, %s)", ["boomerang", payload])
        assert await store.signals.wait("dispatch", 30)
