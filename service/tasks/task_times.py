"""Times of the tasks that this process records: from their creation to the submission, and to the end."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from service.domain.duration_histogram import WAITS, DurationHistogram, Histograms
from service.domain.task import EventType, Status
from service.domain.task_update import UpdateResult

ENDS = {
    EventType.COMPLETED: Status.COMPLETED,
    EventType.FAILED: Status.FAILED,
    EventType.CANCELED: Status.CANCELED,
}


def _by_status() -> dict[str, DurationHistogram]:
    return {status.value: DurationHistogram(bounds=WAITS) for status in ENDS.values()}


@dataclass(kw_only=True)
class TaskTimes:
    """Histograms of the times of tasks; those until the end by the status of the end."""

    started: DurationHistogram = field(default_factory=lambda: DurationHistogram(bounds=WAITS))
    settled: dict[str, DurationHistogram] = field(default_factory=_by_status)

    def observe(self, results: Iterable[UpdateResult]) -> None:
        """Count the submissions and ends among committed `results`."""
        for result in results:
            for event in result.events:
                task = result.task
                if task and event is EventType.SUBMITTED and task.submitted_at:
                    self.started.observe(task.submitted_at - task.created_at)
                elif task and event in ENDS and task.settled_at:
                    self.settled[ENDS[event].value].observe(task.settled_at - task.created_at)

    def histograms(self) -> Histograms:
        """Return them by the names of their metrics."""
        return {"wait_before_start_seconds": {"": self.started}, "time_to_settle_seconds": self.settled}
