"""The short form of each fault with real processes; `python -m tests.chaos` runs the long one."""

import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.bookkeeping import RunRecords
from tests.acceptance.processes import Workspace
from tests.acceptance.test_bookkeeping import GOOD, TASK
from tests.chaos.audit import Audit, Row, table
from tests.chaos.catalogue import FAULTS, SHARES, effort_for, run_fault
from tests.chaos.environment import Effort
from tests.chaos.kills import kill_sqlite

KILLS = 14
QUICK = frozenset({"kill-sqlite", "failover"})
"""A fault on each database; `acceptance/test_kill.py` kills over PostgreSQL.

The short form of the others is run with `-m slow`, as the long form of all.
"""

SLOW = pytest.mark.slow
LONG_KILLS = 60
PYTHON = (sys.executable, "-P")
MUTANT = Path(__file__).with_name("mutant.py")


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=SLOW) for name in FAULTS])
def test_fault_violates_nothing(name: str) -> None:
    """No acknowledged callback, confirmed task or due delivery is lost, and no task is billed twice."""
    _check(run_fault(name, effort_for(name, KILLS, short=True)))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_long_fault_violates_nothing(name: str) -> None:
    """The same with more injections."""
    _check(run_fault(name, replace(effort_for(name, LONG_KILLS, short=False), runs=1, seed=7)))


def _check(row: Row) -> None:
    if row.skipped:
        pytest.skip(row.skipped)
    assert row.wrong == [], table([row])


# ── the audit detects violations ─────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize(("mutation", "part"), [("acknowledge-first", "not recorded"), ("pay-again", "bills")])
async def test_kills_reveal_a_mutation(mutation: str, part: str, tmp_path: Path) -> None:
    """A service that answers before it commits, or submits again what may have been sent, does not pass."""
    with Workspace(home=tmp_path / "workspace", quiet=True, forks=True) as workspace:
        audit = await kill_sqlite(workspace, Effort(kills=14, injections=0), (*PYTHON, str(MUTANT), mutation))
    assert any(part in sentence for sentence in audit.wrong)


NOW = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)

VALID: dict[str, Any] = {
    "fault": "none",
    "injected": Counter(kills=1),
    "records": RunRecords(**GOOD),
    "confirmed": {"key": "t1"},
    "acknowledged": {"a": NOW},
    "deferred": 0,
    "inbox": {"a": "accepted"},
    "unexpected": [],
    "seconds": 1.0,
}


def test_equal_records_pass() -> None:
    """One confirmed task, one recorded callback, one bill."""
    assert Audit(**VALID).wrong == []


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"inbox": {}}, "not recorded"),
        ({"inbox": {"a": "unread"}}, "not recorded"),
        ({"inbox": {"a": "accepted", "b": "broken"}}, "verdicts"),
        ({"confirmed": {"key": "t1", "other": "t2"}}, "do not exist"),
        ({"confirmed": {}}, "no client got"),
        ({"confirmed": {"key": "t1", "other": "t1"}}, "share a task"),
        ({"acknowledged": {}}, "no callback"),
        ({"injected": Counter()}, "no fault was injected"),
        ({"unexpected": ["a callback was answered 500"]}, "500"),
        ({"records": RunRecords(**(GOOD | {"tasks": [TASK | {"status": "in_doubt"}]}))}, "settled"),
    ],
)
def test_each_loss_is_reported(change: dict[str, Any], part: str) -> None:
    """Each missing or repeated record is a sentence, and the row is marked."""
    audit = Audit(**(VALID | change))
    assert any(part in sentence for sentence in audit.wrong)
    assert Row(fault="none", audits=[audit]).cells()[0] == "none: VIOLATED"


def test_every_kill_belongs_to_a_fault() -> None:
    """The requested kills are divided among the faults that kill, without a remainder."""
    assert sum(SHARES.values()) == pytest.approx(1)
    assert sum(effort_for(name, 500, short=False).kills for name in SHARES) >= 500
