"""The operator's limits, checked after each commit: nothing is submitted beyond them."""

import sqlite3

from service.runtime.config.settings import Settings
from tests.simulation.history import History

STATE = """
SELECT coalesce(sum(submission), 0),
 sum(status IN ('submitting', 'in_progress', 'in_doubt')),
 coalesce(sum(cost), 0.0)
FROM tasks
"""


class Limits:
    """Reports a submission that began although a limit was reached."""

    def __init__(self, reader: sqlite3.Connection, settings: Settings, history: History) -> None:
        self._reader = reader
        self._max_in_flight = settings.max_in_flight
        self._budget = None if settings.budget is None else float(settings.budget)
        self._history = history
        self._submissions = 0
        self._spent = 0.0

    def check(self) -> None:
        """Check the tasks after a commit."""
        if self._max_in_flight is None and self._budget is None:
            return
        submissions, in_flight, spent = self._reader.execute(STATE).fetchone()
        begun = submissions > self._submissions
        if begun and self._max_in_flight is not None and in_flight > self._max_in_flight:
            self._history.add_violation(
                f"limits: {in_flight} tasks are in flight, MAX_IN_FLIGHT is {self._max_in_flight}"
            )
        if begun and self._budget is not None and self._spent >= self._budget:
            self._history.add_violation(f"limits: submitted after {self._spent} of {self._budget} dollars")
        self._submissions, self._spent = submissions, spent
