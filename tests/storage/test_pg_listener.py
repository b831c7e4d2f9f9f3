"""Log lines of the PostgreSQL listener while it has no connection."""

import asyncio
from unittest.mock import MagicMock

import psycopg
import pytest
import structlog
from structlog.testing import capture_logs

from service.storage import pg_listener


class Stop(BaseException):
    """Ends the endless loop of the listener."""


AWAY, REFUSED = psycopg.OperationalError("no\n  server"), psycopg.OperationalError("no entry")


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
            await asyncio.wait_for(pg_listener._listen(MagicMock()), 10)
    assert [line["error"].partition(": ")[2] for line in lines] == ["no server", "no entry", "no server", "no server"]
