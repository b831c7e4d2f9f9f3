"""Every attempt of the table as a test."""

from pathlib import Path

import pytest

from tests.attacks.attempts import ATTEMPTS, Attempt, play
from tests.attacks.table import load_all

load_all()


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.id)
async def test_attempt_does_not_get_through(attempt: Attempt, tmp_path: Path) -> None:
    """The attempt gains nothing."""
    assert await play(attempt, tmp_path)
