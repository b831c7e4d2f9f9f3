"""Checks of delays, where no injected fault explains them."""

import re
from collections.abc import Iterator
from typing import Any

from tests.simulation import deliveries
from tests.simulation.facts import Row
from tests.simulation.finished_run import FinishedRun
from tests.simulation.key_changes import TOKENS
from tests.simulation.manners import DELAYING

MAX_SETTLE_DELAY = 30.0
SHARE = 0.1
MAX_POLL_DELAY = 8.0
"""Seconds for the poll that a callback triggers."""

ACCEPTED = 204
UNREADABLE = frozenset({"half_poll_reply", "unknown_status"}) | DELAYING
"""Switches that make a response with status 200 unreadable, or let it report no end."""

SLACK = 5.0
"""Seconds for the network, the intervals of the jobs and the commits."""


def p2_settles_in_time(finished: FinishedRun) -> Iterator[str]:
    """Check that a task settles within 30 s, or a tenth of its run time, of its end where no fault explains a delay.

    A task whose submission is answered after its end can be polled from then on.
    """
    if UNREADABLE & set(finished.scenario.switches) or not _times_comparable(finished):
        return
    replied, slack = _replied(finished), SLACK + _network_delay(finished)
    for task_id, _, provider_task in finished.bills():
        task = finished.facts.tasks.get(task_id)
        if task is None or task["settled_at"] is None or task["guessed"] or _expired(finished, task_id):
            continue
        done = seconds(finished, provider_task.ended_at)
        ran = done - seconds(finished, provider_task.created_at)
        late = task["settled_at"] - max(done, replied.get(task_id, done))
        if late > max(MAX_SETTLE_DELAY, SHARE * ran) + slack and not _excused(finished, task, provider_task.id, done):
            yield f"task {task_id} settled {late:.1f} s after its end, having run for {ran:.1f} s"


def p2_callback_triggers_a_poll(finished: FinishedRun) -> Iterator[str]:
    """Check that a task settles within seconds of its last callback, where no fault explains a delay."""
    slow = "slow_poll" in finished.scenario.switches or not _times_comparable(finished)
    if slow or UNREADABLE & set(finished.scenario.switches) or finished.scenario.settings.get("confirm") == "never":
        return
    replied = _replied(finished)
    for task_id, _, provider_task in finished.bills():
        task = finished.facts.tasks.get(task_id)
        ended_callback_at = _end_callback_at(finished, task_id, provider_task)
        if (
            task is None
            or ended_callback_at is None
            or not task["settled_at"]
            or task["guessed"]
            or _expired(finished, task_id)
        ):
            continue
        known = max(ended_callback_at, replied.get(task_id, ended_callback_at))
        max_delay = _max_delay(finished, one_poll=known > ended_callback_at)
        if task["settled_at"] > known + max_delay and not _excused(finished, task, provider_task.id, known):
            yield f"task {task_id} settled {task['settled_at'] - known:.1f} s after the callback of its end"


def _max_delay(finished: FinishedRun, *, one_poll: bool) -> float:
    """Return the maximum delay in seconds; over a slow network one more poll may be running."""
    return MAX_POLL_DELAY + _network_delay(finished) * (1 if one_poll else 2)


def _network_delay(finished: FinishedRun) -> float:
    """Return the maximum delay of one poll and its response by a slow network, in seconds."""
    network_faults = finished.scenario.network_faults
    return 2 * network_faults.long_delay if network_faults.slow else 0.0


def _times_comparable(finished: FinishedRun) -> bool:
    """Return whether times can be compared: not with wrong clocks or with sleep between single passes."""
    return finished.scenario.true_clocks and finished.scenario.wake_interval is None


def _replied(finished: FinishedRun) -> dict[str, float]:
    """Return for each task when its newest submission was answered with success."""
    return {str(TOKENS.read_payload_token(one).task_id): at for one, at in finished.history.replied.items()}


def _end_callback_at(finished: FinishedRun, task_id: str, provider_task: Any) -> float | None:
    """Return when the first complete callback with the task's end was answered, or None."""
    if provider_task.ended_at is None:
        return None
    ended = seconds(finished, provider_task.ended_at)
    for callback in finished.history.callbacks:
        matches = callback.token.startswith(f"{task_id}~") and callback.status == ACCEPTED and not callback.forged
        if (
            matches
            and callback.at >= ended
            and re.search(rb'"(status|state)": ?"(completed|failed|success)"', callback.body)
        ):
            return callback.at
    return None


def seconds(finished: FinishedRun, moment: Any) -> float:
    """Return a time of the provider in seconds of the loop."""
    start = finished.simulation.loop.now()
    return finished.simulation.loop.time() - float((start - moment).total_seconds())


def _expired(finished: FinishedRun, task_id: str) -> bool:
    return any(event["type"] in {"task.expired", "task.in_doubt"} for event in finished.facts.events[task_id])


def _excused(finished: FinishedRun, task: Row, upstream_id: str, done: float) -> bool:
    """Return whether a fault was injected between the end of a task and its record.

    The work of a dead process is leased until its lease expires.
    """
    settled, lease = task["settled_at"], finished.simulation.settings.lease.total_seconds()
    for disturbance in finished.history.disturbances:
        about = not disturbance.about or upstream_id in disturbance.about or disturbance.kind != "fetch"
        before = max(MAX_SETTLE_DELAY, lease) if disturbance.kind == "down" else MAX_SETTLE_DELAY
        if about and disturbance.began < settled and disturbance.ended > done - before:
            return True
    return False


def p4_not_in_doubt_before_the_reply(finished: FinishedRun) -> Iterator[str]:
    """Check that a submission is not in doubt while its process runs and its reply comes in the end."""
    if (
        any(disturbance.kind in {"stall", "full disk"} for disturbance in finished.history.disturbances)
        or not finished.scenario.true_clocks
    ):
        return
    for payload, at in finished.history.replied.items():
        claim = TOKENS.read_payload_token(payload)
        if claim.submission != 1:
            continue
        for event in finished.facts.events.get(claim.task_id, ()):
            if event["type"] == "task.in_doubt" and event["at"] < at - deliveries.CLOCKS:
                yield f"task {claim.task_id} was in doubt at {event['at']:.3f}, and its reply came at {at:.3f}"
