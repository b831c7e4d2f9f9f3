"""Every attempt of the table as a test."""

from pathlib import Path

import pytest

from tests.security.catalogue import ATTEMPTS, Attempt, play
from tests.security.table import load_all
from tests.security.timing import pairs, table

load_all()


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.id)
async def test_attempt_does_not_get_through(attempt: Attempt, tmp_path: Path) -> None:
    """The attempt gains nothing."""
    assert await play(attempt, tmp_path)


def test_timing_of_every_secret_is_measured() -> None:
    """The measurement runs through, and has a row for each check; it judges nothing."""
    told = table(rounds=20)
    assert [line.split(" | ")[0].removeprefix("| ") for line in told[2:]] == [pair.name for pair in pairs()]
    for pair in pairs():
        assert pair.early() is None
        assert pair.late() is None
