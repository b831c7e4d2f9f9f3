"""What must be so at the end of every run: the promises, checked against the history and the database."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from service.core.task import SETTLED
from service.core.tokens import Tokens
from service.errors import BadToken
from tests.simulation import deliveries
from tests.simulation.facts import Facts, Row, read
from tests.simulation.history import Called, History
from tests.simulation.scenario import Scenario
from tests.simulation.terms import SECRET
from tests.simulation.world import World

TERMINAL = frozenset({"task.completed", "task.failed", "task.canceled"})
OUR_ERRORS = frozenset({"submission_unknown"})
TRUTH = {"success": "completed", "failed": "failed"}
AT_MOST = 30.0
SHARE = 0.1
AT_ONCE = 8.0
"""Seconds for the question that a callback brings forward."""

ACCEPTED = 204
UNREADABLE = frozenset({"half_poll_reply", "unknown_status"})
"""Switches by which an answer says nothing, though it looks fine from outside."""

SLACK = 5.0
"""Seconds for the network, the beats of the rounds and the commits."""


@dataclass(kw_only=True)
class Trial:
    """Everything that a check may look at."""

    world: World
    facts: Facts

    @property
    def scenario(self) -> Scenario:
        """Return what was played."""
        return self.world.scenario

    @property
    def history(self) -> History:
        """Return what the outside saw."""
        return self.world.history

    def bills(self) -> Iterator[tuple[str, int, Any]]:
        """Yield task id, submission and the upstream's own task for each bill."""
        tokens = Tokens([SECRET])
        known = self.world.sandbox._world.tasks
        for bill in self.world.sandbox.bills:
            try:
                claim = tokens.read_payload_token(bill.payload or "")
            except BadToken:
                yield "", 0, known[bill.upstream_id]
            else:
                yield claim.task_id, claim.submission, known[bill.upstream_id]


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


def p2_settles_in_time(trial: Trial) -> Iterator[str]:
    """Demand that a task settles within 30 s, or a tenth of its run time, of its end where nothing stood in the way."""
    if UNREADABLE & set(trial.scenario.switches):
        return
    for task_id, _, theirs in trial.bills():
        task = trial.facts.tasks.get(task_id)
        if task is None or task["settled_at"] is None or task["guessed"] or _expired(trial, task_id):
            continue
        done = seconds(trial, theirs.ended_at)
        ran = done - seconds(trial, theirs.created_at)
        late = task["settled_at"] - done
        if late > max(AT_MOST, SHARE * ran) + SLACK and not _excused(trial, task, theirs.id, done):
            yield f"task {task_id} settled {late:.1f} s after its end, having run for {ran:.1f} s"


def p2_a_callback_brings_the_end_forward(trial: Trial) -> Iterator[str]:
    """Demand that a task settles within seconds of its last callback, where nothing stood in the way."""
    slow = trial.scenario.weather.slow or "slow_poll" in trial.scenario.switches
    if slow or UNREADABLE & set(trial.scenario.switches) or trial.scenario.settings.get("confirm") == "never":
        return
    tokens = Tokens([SECRET])
    replied = {str(tokens.read_payload_token(one).task_id): at for one, at in trial.history.replied.items()}
    for task_id, _, theirs in trial.bills():
        task = trial.facts.tasks.get(task_id)
        told = _told_at(trial, task_id)
        if task is None or told is None or not task["settled_at"] or task["guessed"] or _expired(trial, task_id):
            continue
        known = max(told, replied.get(task_id, told))
        if task["settled_at"] > known + AT_ONCE and not _excused(trial, task, theirs.id, known):
            yield f"task {task_id} settled {task['settled_at'] - known:.1f} s after its end was called back"


def _told_at(trial: Trial, task_id: str) -> float | None:
    """Return when the first whole callback that told of the task's end was answered."""
    for called in trial.history.called:
        ours = called.token.startswith(f"{task_id}~") and called.status == ACCEPTED and not called.forged
        if ours and re.search(rb'"(status|state)": ?"(completed|failed|success)"', called.body):
            return called.at
    return None


def seconds(trial: Trial, moment: Any) -> float:
    """Return a moment of the upstream's in seconds of the loop."""
    start = trial.world.loop.now()
    return trial.world.loop.time() - float((start - moment).total_seconds())


def _expired(trial: Trial, task_id: str) -> bool:
    return any(event["type"] in {"task.expired", "task.in_doubt"} for event in trial.facts.events[task_id])


def _excused(trial: Trial, task: Row, upstream_id: str, done: float) -> bool:
    """Return whether anything was amiss between the end of a task and our hearing of it."""
    settled = task["settled_at"]
    for span in trial.history.spans:
        about = not span.about or upstream_id in span.about or span.kind != "fetch"
        if about and span.began < settled and span.ended > done - AT_MOST:
            return True
    return False


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


def p4_no_doubt_before_the_reply(trial: Trial) -> Iterator[str]:
    """Demand that nobody doubts a submission that is under way in living hands, and whose reply comes in the end."""
    if any(span.kind == "stall" for span in trial.history.spans):
        return
    tokens = Tokens([SECRET])
    for payload, at in trial.history.replied.items():
        claim = tokens.read_payload_token(payload)
        if claim.submission != 1:
            continue
        for event in trial.facts.events.get(claim.task_id, ()):
            if event["type"] == "task.in_doubt" and event["at"] < at - deliveries.CLOCKS:
                yield f"task {claim.task_id} was in doubt at {event['at']:.3f}, and its reply came at {at:.3f}"


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
    p7_nothing_is_left_in_hand,
)
