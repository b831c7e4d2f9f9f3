"""What must have come in time, where nothing stood in the way."""

import re
from collections.abc import Iterator
from typing import Any

from service.domain.tokens import Tokens
from tests.simulation import deliveries
from tests.simulation.facts import Row
from tests.simulation.finished_run import Trial
from tests.simulation.settings import SECRET

AT_MOST = 30.0
SHARE = 0.1
AT_ONCE = 8.0
"""Seconds for the question that a callback brings forward."""

ACCEPTED = 204
UNREADABLE = frozenset({"half_poll_reply", "unknown_status"})
"""Switches by which an answer says nothing, though it looks fine from outside."""

SLACK = 5.0
"""Seconds for the network, the beats of the rounds and the commits."""


def p2_settles_in_time(trial: Trial) -> Iterator[str]:
    """Demand that a task settles within 30 s, or a tenth of its run time, of its end where nothing stood in the way.

    A task whose submission is answered after its end can be asked about from then on.
    """
    if UNREADABLE & set(trial.scenario.switches) or not _on_time(trial):
        return
    replied, slack = _replied(trial), SLACK + _slowly(trial)
    for task_id, _, theirs in trial.bills():
        task = trial.facts.tasks.get(task_id)
        if task is None or task["settled_at"] is None or task["guessed"] or _expired(trial, task_id):
            continue
        done = seconds(trial, theirs.ended_at)
        ran = done - seconds(trial, theirs.created_at)
        late = task["settled_at"] - max(done, replied.get(task_id, done))
        if late > max(AT_MOST, SHARE * ran) + slack and not _excused(trial, task, theirs.id, done):
            yield f"task {task_id} settled {late:.1f} s after its end, having run for {ran:.1f} s"


def p2_a_callback_brings_the_end_forward(trial: Trial) -> Iterator[str]:
    """Demand that a task settles within seconds of its last callback, where nothing stood in the way."""
    slow = "slow_poll" in trial.scenario.switches or not _on_time(trial)
    if slow or UNREADABLE & set(trial.scenario.switches) or trial.scenario.settings.get("confirm") == "never":
        return
    replied = _replied(trial)
    for task_id, _, theirs in trial.bills():
        task = trial.facts.tasks.get(task_id)
        told = _told_at(trial, task_id, theirs)
        if task is None or told is None or not task["settled_at"] or task["guessed"] or _expired(trial, task_id):
            continue
        known = max(told, replied.get(task_id, told))
        patience = _patience(trial, only_question=known > told)
        if task["settled_at"] > known + patience and not _excused(trial, task, theirs.id, known):
            yield f"task {task_id} settled {task['settled_at'] - known:.1f} s after its end was called back"


def _patience(trial: Trial, *, only_question: bool) -> float:
    """Return the seconds that an answer may take; over a slow network one more question may have been under way."""
    return AT_ONCE + _slowly(trial) * (1 if only_question else 2)


def _slowly(trial: Trial) -> float:
    """Return the seconds by which a slow network may hold up one question and its answer."""
    weather = trial.scenario.weather
    return 2 * weather.long_delay if weather.slow else 0.0


def _on_time(trial: Trial) -> bool:
    """Return whether times can be compared: clocks that are wrong, and sleep between two rounds, excuse everything."""
    return trial.scenario.true_clocks and trial.scenario.woken_every is None


def _replied(trial: Trial) -> dict[str, float]:
    """Return for each task when its newest submission was answered with success."""
    tokens = Tokens([SECRET])
    return {str(tokens.read_payload_token(one).task_id): at for one, at in trial.history.replied.items()}


def _told_at(trial: Trial, task_id: str, theirs: Any) -> float | None:
    """Return when the first whole callback that told of the task's end, once it had come, was answered."""
    if theirs.ended_at is None:
        return None
    ended = seconds(trial, theirs.ended_at)
    for called in trial.history.called:
        ours = called.token.startswith(f"{task_id}~") and called.status == ACCEPTED and not called.forged
        if ours and called.at >= ended and re.search(rb'"(status|state)": ?"(completed|failed|success)"', called.body):
            return called.at
    return None


def seconds(trial: Trial, moment: Any) -> float:
    """Return a moment of the upstream's in seconds of the loop."""
    start = trial.world.loop.now()
    return trial.world.loop.time() - float((start - moment).total_seconds())


def _expired(trial: Trial, task_id: str) -> bool:
    return any(event["type"] in {"task.expired", "task.in_doubt"} for event in trial.facts.events[task_id])


def _excused(trial: Trial, task: Row, upstream_id: str, done: float) -> bool:
    """Return whether anything was amiss between the end of a task and our hearing of it.

    What a dead process had in hand is nobody else's until its lease is over.
    """
    settled, lease = task["settled_at"], trial.world.settings.lease.total_seconds()
    for span in trial.history.spans:
        about = not span.about or upstream_id in span.about or span.kind != "fetch"
        before = max(AT_MOST, lease) if span.kind == "down" else AT_MOST
        if about and span.began < settled and span.ended > done - before:
            return True
    return False


def p4_no_doubt_before_the_reply(trial: Trial) -> Iterator[str]:
    """Demand that nobody doubts a submission that is under way in living hands, and whose reply comes in the end."""
    if any(span.kind in {"stall", "full disk"} for span in trial.history.spans) or not trial.scenario.true_clocks:
        return
    tokens = Tokens([SECRET])
    for payload, at in trial.history.replied.items():
        claim = tokens.read_payload_token(payload)
        if claim.submission != 1:
            continue
        for event in trial.facts.events.get(claim.task_id, ()):
            if event["type"] == "task.in_doubt" and event["at"] < at - deliveries.CLOCKS:
                yield f"task {claim.task_id} was in doubt at {event['at']:.3f}, and its reply came at {at:.3f}"
