"""What an action on many tasks is asked for: its tasks, how far it is, and what was counted."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime

from service.dashboard.task_filter import ListFilter
from service.domain.ports.tasks import TaskFilter
from service.domain.task import Status, Task


@dataclass(frozen=True, kw_only=True)
class BulkAction:
    """An action on many tasks; `statuses` are those of tasks for which it can be possible."""

    name: str
    label: str
    past: str
    warning: str
    statuses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BulkRequest:
    """What was asked for: an action on the selected tasks, or on all that match after a position.

    `pending` are the tasks to act on next: of a selection all that are left, else those that were read before `cursor`.
    `total` is how many those are; with `more` only the newest tasks were counted, and there may be more. Tasks created
    at `counted_at` or later are left out: the person who confirms it has not seen them.
    """

    action: BulkAction
    all_that_match: bool
    pending: tuple[str, ...]
    wanted: ListFilter
    cursor: str | None
    total: int
    counts: Counter[str]
    counted_at: datetime
    more: bool = False

    @property
    def matching(self) -> TaskFilter:
        """Return the filter of the tasks that were counted."""
        given = self.wanted.wanted
        until = self.counted_at if given.until is None else min(given.until, self.counted_at)
        return replace(given, until=until)

    @property
    def selects_nothing(self) -> bool:
        """Whether neither tasks were selected nor all that match."""
        return not self.all_that_match and not self.pending

    @property
    def only_queued(self) -> bool:
        """Whether no running task matches, so that none may be canceled at the provider, which may charge for it."""
        statuses = self.matching.statuses
        return self.all_that_match and bool(statuses) and Status.IN_PROGRESS not in statuses

    def still_matches(self, task: Task) -> bool:
        """Return whether a task still has a status of the filter that was confirmed."""
        statuses = self.matching.statuses
        return not self.all_that_match or not statuses or task.status in statuses

    @property
    def handled(self) -> int:
        """Return how many tasks have an outcome."""
        return sum(self.counts.values())

    def may_be_repeated(self, task: Task) -> bool:
        """Return whether an earlier batch may have canceled a task that a search lists now.

        The place of a task that was never submitted changes when it is canceled. Whether somebody else has canceled it
        is not known then.
        """
        if self.action.name != "cancel" or not self.handled or not self.matching.terms.has_text:
            return False
        canceled_at = task.settled_at if task.status is Status.CANCELED and task.upstream_id is None else None
        return canceled_at is not None and canceled_at >= self.counted_at

    @property
    def count_text(self) -> str:
        """Return how many tasks there are, for a person."""
        if self.more and not self.total:
            return "all tasks that match"
        return f"{self.total}{' or more' if self.more else ''} task{'' if self.total == 1 and not self.more else 's'}"
