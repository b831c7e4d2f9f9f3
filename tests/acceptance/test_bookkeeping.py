"""The comparison of the records detects each kind of disagreement."""

from typing import Any

import pytest

from service.domain.task import TaskId
from service.domain.tokens import Tokens
from tests.acceptance.bookkeeping import RunRecords
from tests.acceptance.environment import SECRET
from tests.acceptance.processes import Json


def payload(task_id: str) -> str:
    """Return the payload token of a task's first submission."""
    return Tokens([SECRET]).payload_token(TaskId(task_id), 1)


def event(name: str, kind: str) -> Json:
    """Return the row of an event with the id `name`."""
    return {"kind": "event", "id": name, "type": kind}


def delivery(name: str, handler: str, status: str = "delivered") -> Json:
    """Return the row of a delivery of the event `name`."""
    return {"kind": "delivery", "id": f"{name}-{handler}", "event_id": name, "handler": handler, "status": status}


GOOD: dict[str, Any] = {
    "tasks": [{"id": "t1", "status": "completed", "settled_by": "callback", "error": None}],
    "histories": {
        "t1": [
            event("e1", "task.submitted"),
            event("e2", "task.completed"),
            *(delivery(name, handler) for name in ("e1", "e2") for handler in ("log", "webhook")),
        ]
    },
    "ledger": {"bills": [{"payload": payload("t1")}]},
    "handlers": {"log": None, "webhook": None},
    "received": frozenset({"msg_e1-webhook", "msg_e2-webhook"}),
}
TASK, HISTORY = GOOD["tasks"][0], GOOD["histories"]["t1"]


def test_consistent_records_have_no_fault() -> None:
    """One task with one bill, one final event and every delivery successful."""
    assert RunRecords(**GOOD).faults(count=1) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"tasks": []}, "submitted"),
        ({"tasks": [TASK | {"status": "in_doubt"}]}, "settled"),
        ({"ledger": {"bills": []}}, "without a bill"),
        ({"ledger": {"bills": [{"payload": payload("t1")}] * 2}}, "bills"),
        ({"ledger": {"bills": [{"payload": payload("t1")}, {"payload": "forged"}]}}, "bills"),
        ({"histories": {"t1": HISTORY[:-1]}}, "missing"),
        ({"histories": {"t1": [*HISTORY[:-1], delivery("e2", "webhook", "dead")]}}, "missing"),
        ({"histories": {"t1": [*HISTORY, delivery("e9", "log")]}}, "unexpected"),
        ({"histories": {"t1": [*HISTORY, event("e3", "task.failed")]}}, "two final"),
        ({"received": frozenset({"msg_e1-webhook"})}, "not received"),
    ],
)
def test_each_disagreement_is_reported(change: dict[str, Any], word: str) -> None:
    """A missing, duplicate or foreign record is reported."""
    assert any(word in fault for fault in RunRecords(**(GOOD | change)).faults(count=1))
