"""Callbacks that were refused and name a task: one folded row for each task and reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.domain.task import TaskId


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Refused callbacks about one task for one `reason`: how many, and the times of the first and the last one."""

    task_id: TaskId
    reason: str
    submission: int
    count: int
    first_at: datetime
    last_at: datetime


class RefusalLog(Protocol):
    """The refused callbacks in the histories of tasks."""

    async def add(self, refusals: Sequence[Refusal]) -> int:
        """Add `refusals` to what is stored of their tasks and reasons; return how many name a known submission.

        Those of other tasks and submissions are not stored: anybody can make up an id. Raises StoreUnavailable.
        """
