"""Invariants of the rows of a store, checked after every step."""

from collections import Counter
from datetime import datetime

from service.domain.task import Json
from tests.stateful.model import ENDS, DeliveryModel, Model, TaskModel
from tests.stateful.system_under_test import Rows

PROGRESS = "task.progressed"


def check(model: Model, before: Rows, after: Rows, now: datetime) -> None:
    """Compare the rows with the model, and with the rows before the step."""
    _add_new_deliveries(model, before, after, now)
    _fences_only_grow(before, after)
    _ends_are_final(before, after)
    _the_log_only_grows(before, after)
    _every_event_has_its_deliveries(model, after)
    _open_tasks_have_a_next_step(after, now)
    _attempts_are_numbered(after)
    for row in after["tasks"]:
        _same_task(model.tasks[row["id"]], row)
    assert len(after["tasks"]) == len(model.tasks), "an unexpected task, or a lost one"
    events: dict[str, list[str]] = {one: [] for one in model.tasks}
    for row in after["events"]:
        events[row["task_id"]] += [row["type"]] if row["type"] != PROGRESS else []
    assert events == {one.id: one.events for one in model.tasks.values()}
    for row in after["deliveries"]:
        _same_delivery(model.deliveries[row["id"]], row)


def _add_new_deliveries(model: Model, before: Rows, after: Rows, now: datetime) -> None:
    """Add new deliveries to the model: they are due from their insert on, and have no lease."""
    known = {row["id"] for row in before["deliveries"]}
    for row in after["deliveries"]:
        if row["id"] not in known:
            assert row["created_at"] <= now
            model.deliveries[row["id"]] = DeliveryModel(
                id=row["id"], handler=row["handler"], lane=row["lane"], seq=row["event_seq"], due=row["created_at"]
            )


def _same_task(one: TaskModel, row: Json) -> None:
    held = (one.status, one.guessed, one.submission, one.fence, one.lease, one.upstream_id)
    assert held == tuple(
        row[name] for name in ("status", "guessed", "submission", "fence", "leased_until", "upstream_id")
    ), one.id
    if one.status == "queued":
        assert row["due_at"] == one.queued_until


def _same_delivery(one: DeliveryModel, row: Json) -> None:
    held = (one.status, one.fence, one.lease, one.due, one.attempts, one.attempted)
    assert held == tuple(row[name] for name in ("status", "fence", "leased_until", "due_at", "attempts", "attempted"))


def _fences_only_grow(before: Rows, after: Rows) -> None:
    for name in ("tasks", "deliveries"):
        old = {row["id"]: row["fence"] for row in before[name]}
        assert all(row["fence"] >= old.get(row["id"], 0) for row in after[name])


def _ends_are_final(before: Rows, after: Rows) -> None:
    """Check that the provider's own end never changes, and has one event."""
    old = {row["id"]: row["status"] for row in before["tasks"] if row["status"] in ENDS and not row["guessed"]}
    assert all(row["status"] == old.get(row["id"], row["status"]) for row in after["tasks"])
    ends = Counter(
        row["task_id"] for row in after["events"] if row["type"].removeprefix("task.") in ENDS and not _guess(row)
    )
    assert all(number == 1 for number in ends.values()), ends


def _guess(row: Json) -> bool:
    error = row["data"]["error"]
    return bool(error and error["code"] == "submission_unknown")


def _the_log_only_grows(before: Rows, after: Rows) -> None:
    """Check that readers who resume after the highest number miss nothing."""
    assert after["events"][: len(before["events"])] == before["events"]
    numbers = [row["seq"] for row in after["events"]]
    assert numbers == sorted(set(numbers))


def _every_event_has_its_deliveries(model: Model, after: Rows) -> None:
    wanted = Counter[tuple[str, str]]()
    for row in after["events"]:
        wanted[row["id"], "log"] += 1
        wanted[row["id"], "webhook"] += model.tasks[row["task_id"]].notifies
    assert Counter((row["event_id"], row["handler"]) for row in after["deliveries"]) == +wanted


def _open_tasks_have_a_next_step(after: Rows, now: datetime) -> None:
    """Check that an ended task is not due, and that an open one has a due time by its deadline, or a lease."""
    for row in after["tasks"]:
        if row["status"] in ENDS and not row["guessed"]:
            assert row["due_at"] is None, "settled, but due"
        elif row["status"] == "submitting":
            assert row["leased_until"] is not None, "submitting without a lease"
        elif row["status"] in {"in_progress", "in_doubt"}:
            assert row["due_at"] is not None, "neither settled nor due"
            assert row["due_at"] <= max(now, row["deadline_at"])


def _attempts_are_numbered(after: Rows) -> None:
    numbers: dict[str, list[int]] = {}
    for row in after["attempts"]:
        numbers.setdefault(row["delivery_id"], []).append(row["number"])
    assert all(sorted(found) == list(range(1, len(found) + 1)) for found in numbers.values())
