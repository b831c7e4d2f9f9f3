"""What refused callbacks leave: counts, few log lines, and one line in the history of a task for each reason."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import structlog
from structlog.testing import capture_logs

from service.callbacks import refusals
from service.callbacks.refusals import MAX_WAITING, PERIOD, TASKS_A_MINUTE, Refusals
from service.domain.errors import StoreUnavailable
from service.domain.ports.refusals import Refusal
from service.domain.task import TaskId
from service.domain.tokens import Tokens
from tests.support.delivery_builders import ManualClock
from tests.support.history import history_of
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import HOUR, MINUTE, SECOND, open_loop

OLD_KEY = Tokens(["an-old-key-that-is-no-longer-known-to-us"])


@dataclass
class Store:
    """Keeps what was added; `broken` makes it unavailable."""

    rows: list[Refusal] = field(default_factory=list)
    broken: bool = False

    async def add(self, refusals: Sequence[Refusal]) -> int:
        """Keep the rows."""
        if self.broken:
            raise StoreUnavailable("gone")
        self.rows += refusals
        return len(refusals)


def _token(number: int = 1, submission: int = 1) -> str:
    return OLD_KEY.callback_token(TaskId(f"task-{number}"), submission, ManualClock().now() + HOUR)


def _noted() -> tuple[Refusals, Store, ManualClock]:
    store, clock = Store(), ManualClock()
    return Refusals(store=store, clock=clock), store, clock


async def test_token_of_an_unknown_key_differs_from_other_text() -> None:
    """A text of the right shape may be signed with a removed key; any other text is forged, and names no task."""
    refused, store, _ = _noted()
    for text in ("abc", "", "task-1~1~9.short", "x" * 5000, _token() + "x", "ü~1~9." + "A" * 43):
        refused.note("forged", text)
    refused.note("forged", _token())
    assert refused.counts == {"forged": 6, "unknown_key": 1}
    assert await refused.flush() == 1
    assert [(row.task_id, row.reason) for row in store.rows] == [("task-1", "unknown_key")]


async def test_repeats_are_folded_into_one_row() -> None:
    """The row has a count and the times of the first and the last one, and nothing of the request."""
    refused, store, clock = _noted()
    first = clock.now()
    for _ in range(1000):
        clock.at += SECOND / 100
        refused.note("expired", _token())
    await refused.flush()
    [row] = store.rows
    assert vars(row) == {
        "task_id": "task-1",
        "reason": "expired",
        "submission": 1,
        "count": 1000,
        "first_at": first + SECOND / 100,
        "last_at": clock.now(),
    }


async def test_flood_of_names_is_bounded_and_hides_no_genuine_token() -> None:
    """Of unverified tokens only some tasks a minute are kept; those that a key verified have their own share."""
    refused, store, clock = _noted()
    for number in range(5000):
        refused.note("forged", _token(number))
    refused.note("expired", _token(7000))
    await refused.flush()
    assert len(store.rows) == TASKS_A_MINUTE + 1
    assert store.rows[-1].task_id == "task-7000"
    refused.note("forged", _token(1))
    assert await refused.flush() == 0
    clock.at += MINUTE
    refused.note("forged", _token(1))
    assert await refused.flush() == 1


async def test_memory_is_bounded_while_the_database_is_gone() -> None:
    """Refusals wait for the database, folded, and are stored once it answers."""
    refused, store, clock = _noted()
    store.broken = True
    for number in range(4000):
        clock.at += MINUTE
        refused.note("expired", _token(number))
        refused.note("expired", _token(0))
        assert await refused.flush() == 0
    store.broken = False
    await refused.flush()
    assert len(store.rows) == MAX_WAITING
    assert store.rows[0].count == 4001


async def test_warnings_are_rare_and_count_what_they_leave_out() -> None:
    """A reason is logged at once, then at most once a minute with the number since; never the token."""
    refused, _, clock = _noted()
    with capture_logs() as lines, patch.object(refusals, "log", structlog.get_logger()):
        for _ in range(500):
            refused.note("forged", _token())
        refused.note("signature", _token())
        clock.at += PERIOD
        await refused.flush()
        await refused.flush()
        refused.note("forged", _token())
        await refused.flush(end=True)
    found = [(line["event"], line["log_level"], line["reason"], line["count"]) for line in lines]
    assert found == [
        ("callbacks refused", "warning", "unknown_key", 1),
        ("callbacks refused", "warning", "signature", 1),
        ("callbacks refused", "warning", "unknown_key", 499),
        ("callbacks refused", "warning", "unknown_key", 1),
    ]
    assert _token() not in repr(lines)
    assert _token().rpartition(".")[2] not in repr(lines)


async def test_clock_that_moves_backwards_silences_nothing() -> None:
    """After a jump the next refusal is logged and kept."""
    refused, store, clock = _noted()
    for number in range(TASKS_A_MINUTE):
        refused.note("forged", _token(number))
    await refused.flush()
    clock.at -= timedelta(days=1)
    with capture_logs() as lines, patch.object(refusals, "log", structlog.get_logger()):
        refused.note("forged", _token(9999))
    assert [line["count"] for line in lines] == [TASKS_A_MINUTE]
    assert await refused.flush() == 1
    assert store.rows[-1].task_id == "task-9999"


async def _history(loop: Any, task_id: TaskId) -> list[dict[str, Any]]:
    await loop.receiver.flush()
    return [row for row in await history_of(loop.store.queries, task_id) if row["kind"] == "callback"]


async def test_history_of_the_named_task_shows_refused_callbacks(tmp_path: Path) -> None:
    """One entry for each reason, with its count; a task or a submission that does not exist gets none."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        expires = loop.clock.now() + HOUR
        for _ in range(2):
            loop.receiver.note_refusal("forged", OLD_KEY.callback_token(task.id, 1, expires))
        loop.receiver.note_refusal("expired", OLD_KEY.callback_token(task.id, 1, expires) + "/")
        loop.receiver.note_refusal("forged", OLD_KEY.callback_token(task.id, 999, expires))
        loop.receiver.note_refusal("forged", OLD_KEY.callback_token(TaskId("nobody"), 1, expires))
        loop.receiver.note_refusal("unreadable", OLD_KEY.callback_token(task.id, 1, expires))
        found = await _history(loop, task.id)
        assert [(row["verdict"], row["count"], row["submission"]) for row in found] == [
            ("refused_expired", 1, 1),
            ("refused_unknown_key", 2, 1),
        ]
        loop.clock.move(MINUTE)
        loop.receiver.note_refusal("forged", OLD_KEY.callback_token(task.id, 1, expires))
        again = await _history(loop, task.id)
        assert [row["count"] for row in again] == [1, 3]
        assert (again[1]["at"], again[1]["last_at"] > again[1]["at"]) == (found[1]["at"], True)
        assert await history_of(loop.store.queries, "nobody") == []


async def test_prune_deletes_refusals_of_tasks_that_ended_long_ago(tmp_path: Path) -> None:
    """They are deleted with the callbacks, and stay while the task is open."""
    async with open_loop(tmp_path, confirm=False) as loop:
        task = await loop.submitted()
        loop.receiver.note_refusal("expired", OLD_KEY.callback_token(task.id, 1, loop.clock.now() + HOUR))
        await loop.receiver.flush()
        await loop.store.retention.prune(before=loop.clock.now() + 2 * HOUR)
        assert len(await _history(loop, task.id)) == 1
        await loop.call_back(vtrix_body("failed"))
        await loop.store.retention.prune(before=loop.clock.now() + 2 * HOUR)
        assert await _history(loop, task.id) == []
