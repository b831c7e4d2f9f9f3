"""Every attempt of the table as a test."""

from pathlib import Path

import pytest

from tests.security.catalogue import ATTEMPTS, SHARED, Attempt, SharedAttempts, run
from tests.security.table import load_all
from tests.security.timing import pairs, table

load_all()


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.id)
async def test_attempt_is_blocked(attempt: Attempt, tmp_path: Path) -> None:
    """The attack does not succeed."""
    assert await run(attempt, tmp_path)


@pytest.mark.parametrize("attempts", SHARED, ids=lambda attempts: attempts.group)
async def test_attempts_in_one_environment_are_blocked(attempts: SharedAttempts, tmp_path: Path) -> None:
    """None of the attacks succeeds."""
    results = await attempts.results(tmp_path)
    assert len(results) == len(attempts.checks)
    assert not [(name, result) for name, result in results if isinstance(result, Exception)]


def test_timing_of_every_secret_is_measured() -> None:
    """The measurement has a row for each check; it has no limits."""
    lines = table(samples=20)
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == [pair.name for pair in pairs()]
    for pair in pairs():
        assert pair.early() is None
        assert pair.late() is None
