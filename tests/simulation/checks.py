"""What must be so at the end of every run: the promises, checked against the history and the database."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from service.domain.task import SETTLED
from tests.simulation import deliveries
from tests.simulation.facts import Row, read
from tests.simulation.finished_run import Trial
from tests.simulation.handlers import WHOLE
from tests.simulation.history import Called
from tests.simulation.run import World
from tests.simulation.timing import (
    p2_a_callback_brings_the_end_forward,
    p2_settles_in_time,
    p4_no_doubt_before_the_reply,
)

TERMINAL = frozenset({"task.completed", "task.failed", "task.canceled"})
OUR_ERRORS = frozenset({"submission_unknown"})
TRUTH = {"success": "completed", "failed": "failed"}


def violations(world: World) -> list[str]:
    """Return every broken promise of a run, none when all were kept."""
    trial = Trial(world=world, facts=read(world.reader))
    found = list(world.history.complaints)
    for check in CHECKS:
        found += [f"{check.__name__}: {told}" for told in check(trial)]
    found += deliveries.violations(trial.facts, trial.history, trial.scenario)
    return list(dict.fromkeys(found))


def p1_acknowledged_callbacks_are_kept(trial: Trial) -> Iterator[str]:
    """Demand that every callback that was answered with 2xx is in the inbox, once."""
    kept = Counter(row["digest"] for row in trial.facts.inbox)
    unread = sum(row["verdict"] in {"unread", "broken"} for row in trial.facts.inbox)
    if unread:
        yield f"{unread} callbacks were kept, and never recorded"
    for called in trial.history.called:
        if called.status < 300 and not called.forged:
            digest = trial.world.digest_of(called)
            if digest is None or kept[digest] != 1:
                times = kept[digest or ""]
                yield f"a callback answered with {called.status} at {called.at:.3f} is in the inbox {times} times"


def p5_what_is_forged_changes_nothing(trial: Trial) -> Iterator[str]:
    """Demand that a forged token is answered with 4xx, and leaves nothing behind."""
    for called in trial.history.called:
        if called.forged and called.status not in {401, 403, 503}:
            yield f"a forged callback was answered with {called.status}"
        if called.forged and _in_inbox(trial, called):
            yield "a forged callback is in the inbox"


def _in_inbox(trial: Trial, called: Called) -> bool:
    digest = trial.world.digest_of(called)
    return digest is not None and any(row["digest"] == digest for row in trial.facts.inbox)


def p2_every_task_settles(trial: Trial) -> Iterator[str]:
    """Demand that every wish is one task, which is settled, or expired where the upstream never ends it."""
    for number, task_id in trial.history.accepted.items():
        if task_id not in trial.facts.tasks:
            yield f"wish {number} was accepted as {task_id}, and there is no such task"
    if len(trial.facts.tasks) != len(trial.history.accepted):
        yield f"{len(trial.history.accepted)} wishes have become {len(trial.facts.tasks)} tasks"
    alive = {task_id for task_id, _, theirs in trial.bills() if not theirs.state.final}
    for task in trial.facts.tasks.values():
        if task["status"] not in SETTLED and (task["status"] != "expired" or task["id"] in alive):
            yield f"task {task['id']} ends as {task['status']}"


def p3_one_terminal_word(trial: Trial) -> Iterator[str]:
    """Demand that the upstream's terminal word comes once, is the last thing that happens, and stands."""
    for task_id, task in trial.facts.tasks.items():
        words = [event for event in trial.facts.events[task_id] if _upstreams_word(event)]
        if len(words) > 1:
            yield f"task {task_id} ended {len(words)} times: {[event['type'] for event in words]}"
        after = _after_the_word(trial.facts.events[task_id])
        if after - {"artifact.stored"}:
            yield f"after its end, {sorted(after)} happened to task {task_id}"
        if words and words[-1]["type"] != f"task.{task['status']}":
            yield f"task {task_id} is {task['status']}, and its last word was {words[-1]['type']}"


def _upstreams_word(event: Row) -> bool:
    error = event["data"].get("error") or {}
    return event["type"] in TERMINAL and error.get("code") not in OUR_ERRORS


def _after_the_word(events: list[Row]) -> set[str]:
    ended = next((place for place, event in enumerate(events) if _upstreams_word(event)), len(events))
    return {event["type"] for event in events[ended + 1 :]}


def p3_what_is_told_is_true(trial: Trial) -> Iterator[str]:
    """Demand that what a confirmed task says is what the upstream says."""
    truths: dict[str, set[str]] = defaultdict(set)
    for task_id, _, theirs in trial.bills():
        if theirs.state.final:
            truths[task_id].add(TRUTH[str(theirs.state)])
    believed = trial.scenario.settings.get("confirm") == "never"
    again = trial.scenario.settings.get("on_in_doubt") == "resubmit"
    for task_id, task in trial.facts.tasks.items():
        truth = truths.get(task_id, set())
        if task["guessed"] or task["unconfirmed"] or believed or not truth or task["status"] == "canceled":
            continue
        doubted = any(event["type"] == "task.in_doubt" for event in trial.facts.events[task_id])
        if again and doubted and task["status"] == "failed":
            continue  # that may be the word about the second submission, and the first one's is lost
        if task["status"] not in truth:
            yield f"task {task_id} is {task['status']}, and the upstream says {sorted(truth)}"


def p3_an_end_has_an_event(trial: Trial) -> Iterator[str]:
    """Demand an event for what a task has come to."""
    for task_id, task in trial.facts.tasks.items():
        said = [event["type"] for event in trial.facts.events[task_id]]
        if task["status"] in {*SETTLED, "expired"} and f"task.{task['status']}" not in said:
            yield f"task {task_id} is {task['status']}, and no event says so: {said}"


def p4_no_second_bill(trial: Trial) -> Iterator[str]:
    """Demand that each bill belongs to one submission of one task, and a second one needs the operator's word."""
    counted: Counter[tuple[str, int]] = Counter()
    for task_id, submission, _ in trial.bills():
        if task_id not in trial.facts.tasks:
            yield f"a bill belongs to no task of ours: {task_id!r}"
            continue
        counted[task_id, submission] += 1
        if submission > trial.facts.tasks[task_id]["submission"]:
            yield f"task {task_id} was billed for submission {submission} that it never made"
    most = 2 if trial.scenario.settings.get("on_in_doubt") == "resubmit" else 1
    for (task_id, submission), bills in counted.items():
        if bills > 1:
            yield f"submission {submission} of task {task_id} was billed {bills} times"
    for task_id, bills in Counter(task_id for task_id, _ in counted).items():
        if bills > most:
            yield f"task {task_id} was billed {bills} times"


def p3_what_is_kept_is_whole(trial: Trial) -> Iterator[str]:
    """Demand that an archived file that a task tells of is there, and whole."""
    for task_id, task in trial.facts.tasks.items():
        for one in json.loads(task["output"]) or []:
            address = one.get("archived_url")
            if address and trial.world.stage.shelf.get(address) != WHOLE:
                yield f"task {task_id} tells of {address}, and it is not there"
        stored = [event for event in trial.facts.events[task_id] if event["type"] == "artifact.stored"]
        if stored and "archived_url" not in task["output"]:
            yield f"an artifact of task {task_id} was stored, and the task does not tell of it"


def p7_nothing_is_left_in_hand(trial: Trial) -> Iterator[str]:
    """Demand that no lease is held after a clean stop: what was in hand is finished or given back."""
    if any(span.kind == "down" and span.began > 0 for span in trial.history.spans):
        return  # a lease of the dead runs out by itself
    now = trial.world.loop.time()
    for task in trial.facts.tasks.values():
        if (task["leased_until"] or 0.0) > now:
            yield f"task {task['id']} is still leased after the stop"
    for delivery in trial.facts.deliveries.values():
        if (delivery["leased_until"] or 0.0) > now:
            yield f"delivery {delivery['id']} is still leased after the stop"


CHECKS: tuple[Callable[[Trial], Iterator[str]], ...] = (
    p1_acknowledged_callbacks_are_kept,
    p2_every_task_settles,
    p2_settles_in_time,
    p2_a_callback_brings_the_end_forward,
    p3_one_terminal_word,
    p3_what_is_told_is_true,
    p3_an_end_has_an_event,
    p4_no_second_bill,
    p4_no_doubt_before_the_reply,
    p5_what_is_forged_changes_nothing,
    p3_what_is_kept_is_whole,
    p7_nothing_is_left_in_hand,
)
