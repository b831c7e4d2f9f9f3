"""The short form of each fault with real processes; `python -m tests.chaos` plays the long one."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.bookkeeping import RunRecords
from tests.acceptance.processes import Workspace
from tests.acceptance.test_bookkeeping import GOOD, TASK
from tests.chaos.audit import Audit, Row, table
from tests.chaos.catalogue import FAULTS, SHARES, effort_for, play
from tests.chaos.environment import Effort
from tests.chaos.kills import kill_sqlite

KILLS = 14
LONG_KILLS = 60
PYTHON = (sys.executable, "-P")
MUTANT = Path(__file__).with_name("mutant.py")


@pytest.mark.parametrize("name", FAULTS)
def test_what_was_promised_holds_under_a_fault(name: str) -> None:
    """No acknowledged callback, confirmed task or due delivery is lost, and no task is billed twice."""
    _check(play(name, effort_for(name, KILLS, short=True)))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_what_was_promised_holds_under_a_fault_for_long(name: str) -> None:
    """The same with more of it."""
    _check(play(name, replace(effort_for(name, LONG_KILLS, short=False), runs=1, seed=7)))


def _check(row: Row) -> None:
    if row.skipped:
        pytest.skip(row.skipped)
    assert row.wrong == [], table([row])


# ── the faults and the audit must be able to fail ────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(("planted", "word"), [("acknowledge-first", "not recorded"), ("pay-again", "bills")])
async def test_kills_bring_a_planted_fault_to_light(planted: str, word: str, tmp_path: Path) -> None:
    """A service that answers before it commits, or sends again what may have left, does not pass."""
    with Workspace(home=tmp_path / "workspace", quiet=True) as workspace:
        audit = await kill_sqlite(workspace, Effort(kills=14, strikes=0), (*PYTHON, str(MUTANT), planted))
    assert any(word in sentence for sentence in audit.wrong)


FINE: dict[str, Any] = {
    "fault": "none",
    "struck": Counter(kills=1),
    "records": RunRecords(**GOOD),
    "confirmed": {"key": "t1"},
    "acknowledged": frozenset({"a"}),
    "refused": 0,
    "inbox": {"a": "accepted"},
    "odd": [],
    "seconds": 1.0,
}


def test_books_that_agree_hold() -> None:
    """One task that was confirmed, one callback that is recorded, one bill."""
    assert Audit(**FINE).wrong == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"inbox": {}}, "not recorded"),
        ({"inbox": {"a": "unread"}}, "not recorded"),
        ({"inbox": {"a": "accepted", "b": "broken"}}, "verdicts"),
        ({"confirmed": {"key": "t1", "other": "t2"}}, "not there"),
        ({"confirmed": {}}, "nobody was told of"),
        ({"confirmed": {"key": "t1", "other": "t1"}}, "share a task"),
        ({"acknowledged": frozenset()}, "no callback"),
        ({"struck": Counter()}, "nothing happened"),
        ({"odd": ["a callback was answered 500"]}, "500"),
        ({"records": RunRecords(**(GOOD | {"tasks": [TASK | {"status": "in_doubt"}]}))}, "settled"),
    ],
)
def test_each_loss_is_told(change: dict[str, Any], word: str) -> None:
    """Whatever is missing or doubled is a sentence, and the row says that it is wrong."""
    audit = Audit(**(FINE | change))
    assert any(word in sentence for sentence in audit.wrong)
    assert Row(fault="none", audits=[audit]).cells()[-1] == "WRONG"


def test_every_kill_belongs_to_a_fault() -> None:
    """The kills asked for are shared out over the faults that kill, and none is left over."""
    assert sum(SHARES.values()) == pytest.approx(1)
    assert sum(effort_for(name, 500, short=False).kills for name in SHARES) >= 500
