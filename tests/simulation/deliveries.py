"""Checks of deliveries: every event reaches every handler, in order, on the schedule, under one id."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

from service.domain.circuit import FEW_FAILURES, PARKED_FOR
from service.domain.schedule_times import JITTER
from service.runtime.config.setting_parsers import durations
from tests.simulation.facts import Facts, Row
from tests.simulation.handlers import ARCHIVER, FLAKY, WEBHOOK
from tests.simulation.history import HandlerRun, History
from tests.simulation.scenario import Scenario

CLOCKS = 0.002
"""Seconds by which an attempt may seem early, from rounding."""

LATE = 3.0
CUT_OFF = "CancelledError"


def violations(facts: Facts, history: History, scenario: Scenario) -> list[str]:
    """Return the violations in the deliveries of a run."""
    checks = Deliveries(facts, history, scenario)
    return [f"{check.__name__}: {violation}" for check in checks.checks() for violation in check()]


class Deliveries:
    """The deliveries of a run, and the runs of handlers that belong to them."""

    def __init__(self, facts: Facts, history: History, scenario: Scenario) -> None:
        self._facts = facts
        self._history = history
        self._scenario = scenario
        self._schedule = [pause.total_seconds() for pause in durations(",".join(scenario.schedule))]
        self._hooked = {task_id for number, task_id in history.accepted.items() if _webhook(scenario, number)}
        self._runs: dict[tuple[str, str], list[HandlerRun]] = defaultdict(list)
        self._event_times = {event["id"]: event["at"] for events in facts.events.values() for event in events}
        self._failures = self._failed_attempts()
        for run in history.runs:
            self._runs[run.event_id, run.handler].append(run)

    def _failed_attempts(self) -> dict[str, list[float]]:
        """Return when attempts of each handler failed, in order."""
        found: dict[str, list[float]] = defaultdict(list)
        for delivery in self._facts.deliveries.values():
            for one in self._facts.attempts[delivery["id"]]:
                if one["outcome"] != "delivered":
                    found[delivery["handler"]].append(one["finished_at"])
        return {handler: sorted(times) for handler, times in found.items()}

    def checks(self) -> list[Callable[[], Iterator[str]]]:
        """Return every check; where clocks are wrong, only those that compare no times."""
        independent_of_clocks = [
            self.p3_one_delivery_for_each_event_and_handler,
            self.p3_handlers_run_for_every_event,
            self.p3_ids_are_stable,
            self.p8_replays_run_again,
        ]
        if not self._scenario.true_clocks:
            return independent_of_clocks
        return [
            *independent_of_clocks,
            self.p3_order_is_preserved,
            self.p3_one_at_a_time,
            self.p3_no_run_after_the_end,
            self.p8_attempts_follow_the_schedule,
        ]

    def p3_one_delivery_for_each_event_and_handler(self) -> Iterator[str]:
        """Check that an event has exactly the deliveries of its subscribed handlers."""
        found: dict[str, list[str]] = defaultdict(list)
        for delivery in self._facts.deliveries.values():
            found[delivery["event_id"]].append(delivery["handler"])
        for task_id, events in self._facts.events.items():
            for event in events:
                wanted = (
                    [FLAKY] + [ARCHIVER] * (event["type"] == "task.completed") + [WEBHOOK] * (task_id in self._hooked)
                )
                if sorted(found[event["id"]]) != sorted(wanted):
                    yield f"{event['type']} of {task_id} has deliveries {found[event['id']]}, not {wanted}"

    def p3_handlers_run_for_every_event(self) -> Iterator[str]:
        """Check that a delivered one ended well in its handler, and a dead one was rejected or is out of attempts."""
        for delivery in self._facts.deliveries.values():
            runs = self._of(delivery)
            fine = any(run.outcome == "fine" for run in runs)
            if delivery["status"] == "delivered" and not fine:
                yield f"{_named(delivery)} is delivered, and no run of its handler ended well"
            if delivery["status"] == "dead" and not self._rightly_dead(delivery, runs):
                yield f"{_named(delivery)} is dead after {delivery['attempts']} attempts"
            if delivery["status"] == "pending":
                yield f"{_named(delivery)} is still pending"

    def _rightly_dead(self, delivery: Row, runs: list[HandlerRun]) -> bool:
        attempts = self._facts.attempts[delivery["id"]]  # by the clock of the service, as the times that begin a wait
        waiting_since = delivery["waiting_since"]
        began = [self._event_times[delivery["event_id"]], *([] if waiting_since is None else [waiting_since])]
        waited = bool(attempts) and attempts[-1]["started_at"] >= min(began) + sum(self._schedule) - CLOCKS
        return waited or delivery["attempts"] >= len(self._schedule) or any(run.outcome == "Reject" for run in runs)

    def p3_ids_are_stable(self) -> Iterator[str]:
        """Check that a message keeps its id over attempts, and gets a new one by a replay."""
        for delivery in self._facts.deliveries.values():
            runs, first = self._of(delivery), self._before_replay(delivery)
            if len({run.message_id for run in first}) > 1:
                yield f"{_named(delivery)} was sent under {len({run.message_id for run in first})} ids"
            if runs and runs[-1].message_id != delivery["message_id"]:
                yield f"{_named(delivery)} was last sent under another id than the stored one"

    def p3_order_is_preserved(self) -> Iterator[str]:
        """Check that in a lane, an event starts after the one before it has ended."""
        lanes: dict[str, list[Row]] = defaultdict(list)
        for delivery in self._facts.deliveries.values():
            lanes[delivery["lane"]].append(delivery)
        for lane in lanes.values():
            for earlier, later in pairwise(lane):
                yield from self._in_order(earlier, later)

    def _in_order(self, earlier: Row, later: Row) -> Iterator[str]:
        runs, after = self._before_replay(earlier), self._before_replay(later)
        if not after:
            return
        if not runs:
            yield f"{_named(later)} ran, and {_named(earlier)} before it did not"
        elif after[0].began < max(self._first_end(earlier, runs), runs[0].began) - CLOCKS:
            yield f"{_named(later)} began at {after[0].began:.3f}, before {_named(earlier)} had ended"

    def _first_end(self, delivery: Row, runs: list[HandlerRun]) -> float:
        """Return when a delivery first ended: the end of its first good or last counted run."""
        fine = [run.ended for run in runs if run.outcome in {"fine", "Reject"} and run.ended is not None]
        counted = [one["finished_at"] for one in self._facts.attempts[delivery["id"]] if one["outcome"] != "retry"]
        return min([*fine, *counted], default=0.0)

    def _before_replay(self, delivery: Row) -> list[HandlerRun]:
        at = self._history.replayed.get(delivery["id"])
        return [run for run in self._of(delivery) if at is None or run.began < at]

    def p3_one_at_a_time(self) -> Iterator[str]:
        """Check that a lane runs one delivery at a time, unless its process could not renew the lease."""
        lanes: dict[str, list[HandlerRun]] = defaultdict(list)
        for run in self._history.runs:
            if not self._stalled(run):
                lanes[run.lane].append(run)
        for lane, runs in lanes.items():
            for one, other in pairwise(sorted(runs, key=lambda run: run.began)):
                if one.ended is None or other.began < one.ended - CLOCKS:
                    yield f"{lane} ran twice at once at {other.began:.3f}, in {one.process} and {other.process}"

    def _stalled(self, run: HandlerRun) -> bool:
        return any(
            (disturbance.kind == "full disk" or (disturbance.kind == "stall" and disturbance.about == run.process))
            and disturbance.began <= (run.ended or 1e12)
            and disturbance.ended >= run.began
            for disturbance in self._history.disturbances
        )

    def p3_no_run_after_the_end(self) -> Iterator[str]:
        """Check that a delivery stored as ended is not run again, except by replay."""
        for delivery in self._facts.deliveries.values():
            ends = [one for one in self._facts.attempts[delivery["id"]] if one["outcome"] != "retry"]
            if len(ends) > 1 and delivery["id"] not in self._history.replayed:
                yield f"{_named(delivery)} ended {len(ends)} times"
            for run in self._before_replay(delivery):
                if ends and run.began > ends[0]["finished_at"] + CLOCKS + 1.0:
                    yield f"{_named(delivery)} was run at {run.began:.3f}, after its end"

    def p8_attempts_follow_the_schedule(self) -> Iterator[str]:
        """Check that attempts are counted from 1 without a gap, and none begins before its pause is over."""
        for delivery in self._facts.deliveries.values():
            attempts = self._facts.attempts[delivery["id"]]
            if [one["number"] for one in attempts] != list(range(1, len(attempts) + 1)):
                yield f"{_named(delivery)} has attempts {[one['number'] for one in attempts]}"
            first = attempts if delivery["id"] not in self._history.replayed else self._first_life(attempts)
            probed = len(self._failures.get(delivery["handler"], ())) >= FEW_FAILURES  # a probe does not count
            if not probed and any(not _abandoned(one) for one in first[len(self._schedule) - 1 : -1]):
                yield f"{_named(delivery)} was tried {len(first)} times"
            yield from self._pauses(delivery, first)

    def _first_life(self, attempts: list[Row]) -> list[Row]:
        ended = next((position for position, one in enumerate(attempts) if one["outcome"] != "retry"), len(attempts))
        return attempts[: ended + 1]

    def _pauses(self, delivery: Row, attempts: list[Row]) -> Iterator[str]:
        for position, (one, following) in enumerate(pairwise(attempts), start=1):
            wanted = self._requested_pause(delivery, one)
            minimum = self._schedule[min(position, len(self._schedule) - 1)] if wanted is None else wanted
            maximum = minimum
            if self._may_wait_for_a_circuit(delivery["handler"], following["started_at"]):
                maximum = max(minimum, sum(self._schedule) + self._max_requested_pause() + PARKED_FOR.total_seconds())
                minimum = 0.0  # due at once when another delivery finds that the destination works
            pause = following["started_at"] - one["finished_at"]
            if pause < minimum - CLOCKS:
                yield f"{_named(delivery)}: attempt {position + 1} is {pause:.3f} s after {position}, not {minimum} s"
            if pause > maximum * (1 + JITTER) + LATE and not self._excused(one, following):
                yield f"{_named(delivery)}: attempt {position + 1} is {pause:.3f} s after {position}, not {minimum} s"

    def _may_wait_for_a_circuit(self, handler: str, before: float) -> bool:
        """Return whether a destination of the handler may have had a circuit: with fewer failures none opens."""
        return bisect_left(self._failures.get(handler, []), before) >= FEW_FAILURES

    def _max_requested_pause(self) -> float:
        """Return the longest pause that any destination requested, in seconds: it holds for all its deliveries."""
        return max((run.requested_pause or 0.0 for run in self._history.runs), default=0.0)

    def _requested_pause(self, delivery: Row, attempt: Row) -> float | None:
        """Return the pause that the handler requested, or None."""
        for run in self._of(delivery):
            if run.ended is not None and abs(run.began - attempt["started_at"]) < CLOCKS:
                return run.requested_pause
        return None

    def _excused(self, one: Row, following: Row) -> bool:
        if self._scenario.wake_interval:
            return True
        return any(
            disturbance.kind in {"down", "stall", "full disk"}
            and disturbance.began <= following["started_at"]
            and disturbance.ended >= one["started_at"]
            for disturbance in self._history.disturbances
        )

    def p8_replays_run_again(self) -> Iterator[str]:
        """Check that a replay is run again, under a new id."""
        for delivery_id, at in self._history.replayed.items():
            delivery = self._facts.deliveries[delivery_id]
            runs = self._of(delivery)
            before = {run.message_id for run in runs if run.began < at}
            after = {run.message_id for run in runs if run.began >= at}
            if not after and delivery_id in self._history.confirmed:
                yield f"{_named(delivery)} was replayed, and its handler never ran again"
            if before & after:
                yield f"{_named(delivery)} was replayed under the id that it had before"

    def _of(self, delivery: Row) -> list[HandlerRun]:
        return self._runs[delivery["event_id"], delivery["handler"]]


def _abandoned(attempt: Row) -> bool:
    """Return whether the attempt's end is unknown: such attempts may exceed the schedule."""
    return str(attempt["error"]).startswith("Abandoned")


def _webhook(scenario: Scenario, number: int) -> bool:
    return any(task_request.number == number and task_request.webhook for task_request in scenario.task_requests)


def _named(delivery: Row) -> str:
    return f"delivery {delivery['id'][-6:]} of event {delivery['event_seq']} to {delivery['handler']}"
