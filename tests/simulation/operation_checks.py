"""Checks of the operations at the end of a run: pauses, replays, changed resubmissions, erasure, endpoints, streams."""

import sqlite3
from collections.abc import Callable, Iterator

from tests.simulation.finished_run import FinishedRun
from tests.simulation.handlers import FLAKY
from tests.simulation.operations import Done, prompt_of
from tests.simulation.run import Simulation
from tests.simulation.scheduler import EPOCH, MICROSECONDS

LATE = 3.0
"""Seconds in which every process reads that a handler is paused, and in which a run that was started begins."""

HANDED_OVER_WITHIN = 10.0
"""Seconds in which an operator event is handed to its handlers: the job looks every five."""

ENDPOINT_EVENTS = frozenset({"task.submitted", "task.completed", "task.failed", "task.expired"})


def done_of(simulation: Simulation) -> Done:
    """Return what was done in a run that has operations."""
    assert simulation.operators is not None
    return simulation.operators.done


def paused_handler_begins_nothing(finished: FinishedRun) -> Iterator[str]:
    """Check that no delivery of a paused handler begins; a process that is stalled reads the pause late."""
    paused = done_of(finished.simulation).paused
    if paused is None or any(each.kind == "stall" for each in finished.history.disturbances):
        return
    for run in finished.history.runs:
        if run.handler == FLAKY and paused[0] + LATE < run.began < paused[1]:
            yield f"{FLAKY} began {run.event_type} at {run.began:.3f}, paused from {paused[0]:.3f} to {paused[1]:.3f}"


def streams_have_every_event_once_in_order(finished: FinishedRun) -> Iterator[str]:
    """Check that each reader of the stream got every event once, in the order of the commits, in spite of cuts."""
    stored = [row[0] for row in finished.simulation.reader.execute("SELECT seq FROM events ORDER BY seq")]
    for numbers in done_of(finished.simulation).streams:
        if numbers != stored:
            missing, twice = sorted(set(stored) - set(numbers)), len(numbers) - len(set(numbers))
            yield f"a stream lacks {missing}, has {twice} events twice, in order: {numbers == sorted(numbers)}"


def erased_tasks_leave_nothing(finished: FinishedRun) -> Iterator[str]:
    """Check that nothing private of an erased task is in any table, and that none of its handlers began afterwards."""
    done = done_of(finished.simulation)
    for task_id, at in done.erased.items():
        number = next(number for number, known in done.tasks.items() if known == task_id)
        for table in _tables_with(finished.simulation.reader, prompt_of(number)):
            yield f"the prompt of the erased task {task_id} is still in {table}"
        for run in finished.history.runs:
            if run.task == task_id and run.began > at + LATE:
                yield f"{run.handler} began {run.event_type} of the erased task {task_id} at {run.began:.3f}"


def _tables_with(reader: sqlite3.Connection, text: str) -> Iterator[str]:
    for (table,) in list(reader.execute("SELECT name FROM sqlite_master WHERE type = 'table'")):
        rows = reader.execute(f"SELECT * FROM {table}")  # noqa: S608 - names of our own tables
        if any(text in repr(row) for row in rows):
            yield table


def resubmission_is_one_task(finished: FinishedRun) -> Iterator[str]:
    """Check that a resubmission with changes made one task with them, however often it was repeated."""
    query = "SELECT id, params FROM tasks WHERE resubmission_of = ?"
    for old, new in done_of(finished.simulation).resubmitted.items():
        found = finished.simulation.reader.execute(query, [old]).fetchall()
        if [row[0] for row in found] != [new] or "a dog" not in found[0][1]:
            yield f"the resubmission of {old} as {new} made {found}"


def dead_letters_are_replayed(finished: FinishedRun) -> Iterator[str]:
    """Check that every dead letter was made again, under a new id."""
    done = done_of(finished.simulation)
    for delivery_id, message_id in done.replayed.items():
        row = finished.facts.deliveries[delivery_id]
        if row["task_id"] in done.erased:
            continue
        ran = any(run.message_id == row["message_id"] for run in finished.history.runs)
        if row["message_id"] == message_id or not ran:
            yield f"the dead letter {delivery_id} was replayed, and is {row['status']} with {row['message_id']}"


def endpoint_is_disabled_when_its_receiver_is_gone(finished: FinishedRun) -> Iterator[str]:
    """Check that an endpoint is disabled after its receiver has answered 410."""
    done, reader = done_of(finished.simulation), finished.simulation.reader
    if not done.enabled_again and reader.execute("SELECT 1 FROM attempts WHERE answer_status = 410").fetchone():
        yield f"the endpoint {done.endpoint} was not disabled, though its receiver is gone"


def endpoint_gets_what_it_missed(finished: FinishedRun) -> Iterator[str]:
    """Check that an endpoint that was enabled again has got every event, also those of while it was disabled."""
    done = done_of(finished.simulation)
    if not done.enabled_again:
        return
    query = "SELECT event_id, status FROM deliveries WHERE endpoint_id = ?"
    stored = dict(finished.simulation.reader.execute(query, [done.endpoint]).fetchall())
    for task_id, events in finished.facts.events.items():
        for event in events:
            if event["type"] not in ENDPOINT_EVENTS or task_id in done.erased:
                continue
            if event["id"] not in stored:
                yield f"{event['type']} of {task_id} has no delivery to the endpoint after the replay"
            elif stored[event["id"]] == "delivered" and (task_id, event["type"]) not in done.received:
                yield f"{event['type']} of {task_id} is delivered to the endpoint, which did not get it"


def operator_events_reach_their_handler(finished: FinishedRun) -> Iterator[str]:
    """Check that each operator event reached the handler that asks for it, and that a disabled endpoint has one.

    One that is stored just before the run ends has not reached it yet.
    """
    done, reader = done_of(finished.simulation), finished.simulation.reader
    stored = dict(reader.execute("SELECT id, type FROM operator_events").fetchall())
    end = EPOCH + int((finished.simulation.loop.time() - HANDED_OVER_WITHIN) * MICROSECONDS)
    due = {row[0] for row in reader.execute("SELECT id FROM operator_events WHERE at <= ?", (end,))}
    for event_id in due - set(done.operator_events):
        yield f"the operator event {stored[event_id]} was never handled"
    if done.enabled_again and "service.endpoint_disabled" not in stored.values():
        yield "the endpoint was disabled without an operator event"


OPERATION_CHECKS: tuple[Callable[[FinishedRun], Iterator[str]], ...] = (
    paused_handler_begins_nothing,
    streams_have_every_event_once_in_order,
    erased_tasks_leave_nothing,
    resubmission_is_one_task,
    dead_letters_are_replayed,
    endpoint_is_disabled_when_its_receiver_is_gone,
    endpoint_gets_what_it_missed,
    operator_events_reach_their_handler,
)
