"""Checks of the promises at the end of every run, against the history and the database."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from service.domain.task import SETTLED
from tests.simulation import deliveries
from tests.simulation.facts import Row, read
from tests.simulation.finished_run import FinishedRun
from tests.simulation.handlers import ARCHIVER, FILE_CONTENT
from tests.simulation.history import ReceivedCallback
from tests.simulation.key_changes import LIST_FAULTS
from tests.simulation.network import NetworkFaults
from tests.simulation.operation_checks import OPERATION_CHECKS
from tests.simulation.run import Simulation
from tests.simulation.timing import (
    p2_callback_triggers_a_poll,
    p2_settles_in_time,
    p4_not_in_doubt_before_the_reply,
)

TERMINAL = frozenset({"task.completed", "task.failed", "task.canceled"})
LOCAL_ERRORS = frozenset({"submission_unknown"})
LOSING_REPLIES = frozenset(
    {
        "lose_create_reply",
        "drop_create",
        "slow_create",
        "html_500_create",
        "bad_gateway_create",
        "gateway_timeout_create",
        "half_create_reply",
    }
)
"""Switches with which a submission has no readable reply."""

STATUS_OF_STATE = {"success": "completed", "failed": "failed"}


def violations(simulation: Simulation) -> list[str]:
    """Return every violation of a promise in a run."""
    finished = FinishedRun(simulation=simulation, facts=read(simulation.reader))
    found = list(simulation.history.violations)
    for check in CHECKS:
        found += [f"{check.__name__}: {violation}" for violation in check(finished)]
    found += deliveries.violations(finished.facts, finished.history, finished.scenario)
    return list(dict.fromkeys(found))


def final_violations(simulation: Simulation) -> list[str]:
    """Return every violation at the end of a run; before its operations it was checked as one without."""
    if simulation.operators is None:
        return violations(simulation)
    finished = FinishedRun(simulation=simulation, facts=read(simulation.reader))
    found = list(simulation.history.violations)
    for check in (p3_one_terminal_status, p4_no_duplicate_charge, p7_no_lease_after_shutdown, *OPERATION_CHECKS):
        found += [f"{check.__name__}: {violation}" for violation in check(finished)]
    return list(dict.fromkeys(found))


def p1_acknowledged_callbacks_are_kept(finished: FinishedRun) -> Iterator[str]:
    """Check that every callback answered with 2xx is in the inbox exactly once, unless its task was final."""
    stored = Counter(row["digest"] for row in finished.facts.inbox)
    final_from = {
        task_id: task["settled_at"] - finished.scenario.clock_error
        for task_id, task in finished.facts.tasks.items()
        if task["settled_at"] is not None and not task["guessed"]
    }
    unread = sum(row["verdict"] in {"unread", "broken"} for row in finished.facts.inbox)
    if unread:
        yield f"{unread} callbacks are in the inbox and were never recorded"
    for callback in finished.history.callbacks:
        if callback.status < 300 and not callback.forged:
            digest = finished.simulation.digest_of(callback)
            task_id = callback.token.partition("~")[0]
            if not stored[digest or ""] and callback.at >= final_from.get(task_id, math.inf):
                continue  # callbacks of a final task are not stored
            if digest is None or stored[digest] != 1:
                times = stored[digest or ""]
                yield f"a callback answered with {callback.status} at {callback.at:.3f} is in the inbox {times} times"


def p5_forged_callbacks_change_nothing(finished: FinishedRun) -> Iterator[str]:
    """Check that a forged token is answered with 4xx and changes nothing."""
    for callback in finished.history.callbacks:
        if callback.forged and callback.status not in {401, 403, 503}:
            yield f"a forged callback was answered with {callback.status}"
        if callback.forged and _in_inbox(finished, callback):
            yield "a forged callback is in the inbox"


def _in_inbox(finished: FinishedRun, callback: ReceivedCallback) -> bool:
    digest = finished.simulation.digest_of(callback)
    return digest is not None and any(row["digest"] == digest for row in finished.facts.inbox)


def p2_every_task_settles(finished: FinishedRun) -> Iterator[str]:
    """Check that every request is one task, settled, or expired where the provider never ends it."""
    for number, task_id in finished.history.accepted.items():
        if task_id not in finished.facts.tasks:
            yield f"request {number} was accepted as {task_id}, which does not exist"
    if len(finished.facts.tasks) != len(finished.history.accepted):
        yield f"{len(finished.history.accepted)} requests became {len(finished.facts.tasks)} tasks"
    alive = {task_id for task_id, _, provider_task in finished.bills() if not provider_task.state.final}
    for task in finished.facts.tasks.values():
        if task["status"] not in SETTLED and (task["status"] != "expired" or task["id"] in alive):
            yield f"task {task['id']} ends as {task['status']}"


def p3_one_terminal_status(finished: FinishedRun) -> Iterator[str]:
    """Check that the provider's terminal status is recorded once, is the last event, and is the task's status."""
    for task_id, task in finished.facts.tasks.items():
        terminal = [event for event in finished.facts.events[task_id] if _is_terminal(event)]
        if len(terminal) > 1:
            yield f"task {task_id} ended {len(terminal)} times: {[event['type'] for event in terminal]}"
        after = _after_the_end(finished.facts.events[task_id])
        if after - {"artifact.stored"}:
            yield f"task {task_id} has the events {sorted(after)} after its end"
        if terminal and terminal[-1]["type"] != f"task.{task['status']}":
            yield f"task {task_id} is {task['status']}, and its last terminal event is {terminal[-1]['type']}"


def _is_terminal(event: Row) -> bool:
    error = event["data"].get("error") or {}
    return event["type"] in TERMINAL and error.get("code") not in LOCAL_ERRORS


def _after_the_end(events: list[Row]) -> set[str]:
    ended = next((position for position, event in enumerate(events) if _is_terminal(event)), len(events))
    return {event["type"] for event in events[ended + 1 :]}


def p3_status_matches_the_provider(finished: FinishedRun) -> Iterator[str]:
    """Check that the status of a confirmed task is the provider's."""
    statuses: dict[str, set[str]] = defaultdict(set)
    for task_id, _, provider_task in finished.bills():
        if provider_task.state.final:
            statuses[task_id].add(STATUS_OF_STATE[str(provider_task.state)])
    unconfirmed = finished.scenario.settings.get("confirm") == "never"
    resubmits = finished.scenario.settings.get("on_in_doubt") == "resubmit"
    for task_id, task in finished.facts.tasks.items():
        expected = statuses.get(task_id, set())
        if task["guessed"] or task["unconfirmed"] or unconfirmed or not expected or task["status"] == "canceled":
            continue
        in_doubt = any(event["type"] == "task.in_doubt" for event in finished.facts.events[task_id])
        if resubmits and in_doubt and task["status"] == "failed":
            continue  # the failure may be that of the second submission, while the first one's result is lost
        if task["status"] not in expected:
            yield f"task {task_id} is {task['status']}, the provider's status is {sorted(expected)}"


def p3_an_end_has_an_event(finished: FinishedRun) -> Iterator[str]:
    """Check that the final status of a task has its event."""
    for task_id, task in finished.facts.tasks.items():
        types = [event["type"] for event in finished.facts.events[task_id]]
        if task["status"] in {*SETTLED, "expired"} and f"task.{task['status']}" not in types:
            yield f"task {task_id} is {task['status']} without that event: {types}"


def p4_no_duplicate_charge(finished: FinishedRun) -> Iterator[str]:
    """Check that each bill belongs to one submission of one task, and a second needs the operator's approval."""
    counted: Counter[tuple[str, int]] = Counter()
    for task_id, submission, _ in finished.bills():
        if task_id not in finished.facts.tasks:
            yield f"a bill belongs to no known task: {task_id!r}"
            continue
        counted[task_id, submission] += 1
        if submission > finished.facts.tasks[task_id]["submission"]:
            yield f"task {task_id} was billed for submission {submission} that it never made"
    max_bills = 2 if finished.scenario.settings.get("on_in_doubt") == "resubmit" else 1
    for (task_id, submission), bills in counted.items():
        if bills > 1:
            yield f"submission {submission} of task {task_id} was billed {bills} times"
    for task_id, bills in Counter(task_id for task_id, _ in counted).items():
        if bills > max_bills:
            yield f"task {task_id} was billed {bills} times"


def p4_list_resolves_doubt(finished: FinishedRun) -> Iterator[str]:
    """Check that a task whose reply was lost goes on with the submission that the provider's list has.

    Only where the list can be read: faults of polls and of the network may hide it until the doubt ends.
    """
    scenario = finished.scenario
    hidden = LIST_FAULTS & set(scenario.switches) or scenario.network_faults != NetworkFaults()
    if scenario.provider != "vidu" or hidden or not scenario.true_clocks or scenario.stalls or scenario.full_disks:
        return
    for task_id, submission, _ in finished.bills():
        task = finished.facts.tasks.get(task_id)
        if task and ((task["guessed"] and task["status"] == "failed") or task["submission"] > submission):
            yield f"submission {submission} of task {task_id} was billed and is not found in the list"


def p4_no_doubt_without_a_lost_reply(finished: FinishedRun) -> Iterator[str]:
    """Check that no submission is in doubt where every reply arrives, whatever manners its answer has."""
    scenario = finished.scenario
    lost = LOSING_REPLIES & set(scenario.switches) or scenario.network_faults != NetworkFaults()
    stops = {one.kind for one in finished.history.disturbances if one.began > 0} - {"fetch", "list", "throttled"}
    if lost or stops or not scenario.true_clocks or scenario.wake_interval is not None:
        return
    for task_id, events in finished.facts.events.items():
        if any(event["type"] == "task.in_doubt" for event in events):
            yield f"task {task_id} was in doubt although no reply was lost"


def p3_stored_files_are_complete(finished: FinishedRun) -> Iterator[str]:
    """Check that each archived file named by a task exists and is complete."""
    for task_id, task in finished.facts.tasks.items():
        for one in json.loads(task["output"]) or []:
            address = one.get("archived_url")
            if address and finished.simulation.sample_handlers.stored_files.get(address) != FILE_CONTENT:
                yield f"task {task_id} names {address}, which is missing or incomplete"
        stored = [event for event in finished.facts.events[task_id] if event["type"] == "artifact.stored"]
        if stored and "archived_url" not in task["output"]:
            yield f"an artifact of task {task_id} was stored, and the task does not name it"


def p3_paid_results_are_recorded(finished: FinishedRun) -> Iterator[str]:
    """Check that a completed task has the result of the submission whose id it knows, unless that one has none.

    A clock that jumps forward ends the wait for a result early. The id of a submission whose reply and
    callbacks were lost is never known.
    """
    with_result: set[str] = set()
    for _, _, provider_task in finished.bills():
        hidden = finished.simulation.sandbox._state.hits("no_result", provider_task.number)
        if str(provider_task.state) == "success" and not hidden:
            with_result.add(provider_task.id)
    for task_id, task in finished.facts.tasks.items():
        if task["status"] == "completed" and not json.loads(task["output"]):
            paid = task["upstream_id"] in with_result
            if paid and not task["unconfirmed"] and finished.scenario.true_clocks:
                yield f"task {task_id} is completed without the result that was paid for"
            if "paid without result" not in task["warnings"]:
                yield f"task {task_id} was paid without a result and does not say so"


def p6_every_result_is_stored(finished: FinishedRun) -> Iterator[str]:
    """Check that a task whose results were delivered names a stored file for every output."""
    for row in finished.facts.deliveries.values():
        task = finished.facts.tasks[row["task_id"]]
        if row["handler"] != ARCHIVER or row["status"] != "delivered":
            continue
        events = {event["id"]: event for event in finished.facts.events[row["task_id"]]}
        delivered = {item["url"] for item in events[row["event_id"]]["data"]["output"]}
        for item in json.loads(task["output"]) or []:
            if item["url"] in delivered and "archived_url" not in item:
                yield f"task {task['id']} has an output that is not stored, though its delivery succeeded"


def p7_no_lease_after_shutdown(finished: FinishedRun) -> Iterator[str]:
    """Check that no lease is held after a clean shutdown: running work is finished or released."""
    if any(disturbance.kind == "down" and disturbance.began > 0 for disturbance in finished.history.disturbances):
        return  # the lease of a crashed process expires
    now = finished.simulation.loop.time()
    for task in finished.facts.tasks.values():
        if (task["leased_until"] or 0.0) > now:
            yield f"task {task['id']} is still leased after the shutdown"
    for delivery in finished.facts.deliveries.values():
        if (delivery["leased_until"] or 0.0) > now:
            yield f"delivery {delivery['id']} is still leased after the shutdown"


CHECKS: tuple[Callable[[FinishedRun], Iterator[str]], ...] = (
    p1_acknowledged_callbacks_are_kept,
    p2_every_task_settles,
    p2_settles_in_time,
    p2_callback_triggers_a_poll,
    p3_one_terminal_status,
    p3_status_matches_the_provider,
    p3_an_end_has_an_event,
    p4_no_duplicate_charge,
    p4_list_resolves_doubt,
    p4_not_in_doubt_before_the_reply,
    p4_no_doubt_without_a_lost_reply,
    p5_forged_callbacks_change_nothing,
    p3_stored_files_are_complete,
    p3_paid_results_are_recorded,
    p6_every_result_is_stored,
    p7_no_lease_after_shutdown,
)
