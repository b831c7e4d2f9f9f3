"""What is told while nobody can be listened to."""

import asyncio
from unittest.mock import MagicMock

import psycopg
import pytest
import structlog
from structlog.testing import capture_logs

from service.storage import pg_listener


class Enough(BaseException):
    """Ends the loop that otherwise never does."""


AWAY, REFUSED = psycopg.OperationalError("no\n  server"), psycopg.OperationalError("no entry")


def lost() -> MagicMock:
    """Return a subscription that can be entered, and is lost at once."""
    made = MagicMock()
    made.__aenter__.return_value.notifies = MagicMock(side_effect=AWAY)
    made.__aexit__.return_value = False
    return made


async def test_the_reason_is_told_once_until_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away does not fill the log, and one that came back in between is told anew."""
    tries = [AWAY, AWAY, REFUSED, REFUSED, AWAY, lost(), AWAY, Enough()]
    monkeypatch.setattr(pg_listener, "_subscribed", MagicMock(side_effect=tries))
    monkeypatch.setattr(pg_listener, "RECONNECT_DELAY", 0)
    with capture_logs() as lines:
        monkeypatch.setattr(pg_listener, "log", structlog.get_logger())
        with pytest.raises(Enough):
            await asyncio.wait_for(pg_listener._listen(MagicMock()), 10)
    assert [line["error"].partition(": ")[2] for line in lines] == ["no server", "no entry", "no server", "no server"]
