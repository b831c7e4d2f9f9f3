"""Replays of deliveries: which ones, and what became of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from service.domain.task import TaskId

ReplayStatus = Literal["dead", "pending"]

ReplayOutcome = Literal["replayed", "running", "changed", "secret_deleted", "erased"]
"""What became of one delivery: `running` is leased by an attempt and left alone, `changed` has another status by now,
`secret_deleted` can no longer be signed, `erased` belongs to an erased task."""


@dataclass(frozen=True, kw_only=True)
class ReplayFilter:
    """The deliveries to replay: those to which every given field applies.

    `since` and `until` limit the time of the event; `until` is exclusive. `receiver` is the host of the address in a
    `notify` entry, in lower case. `task_id` is for those of one task. With `requested` only deliveries that a `notify`
    entry asked for.
    """

    statuses: frozenset[ReplayStatus]
    handler: str | None = None
    client: str | None = None
    receiver: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    requested: bool = False
    task_id: TaskId | None = None


@dataclass(frozen=True, kw_only=True)
class Replayable:
    """One delivery that matches a filter."""

    id: str
    handler: str
    status: ReplayStatus


class Replayer(Protocol):
    """Replays deliveries."""

    async def replay(self, delivery_ids: Sequence[str], *, now: datetime) -> dict[str, ReplayOutcome]:
        """Make single deliveries due at `now`, whatever their status; return what became of those that exist.

        A dead or delivered one gets a new message id, so that no receiver takes it for a repeat. Each has all its
        attempts again. The next attempt is made although its host fails now, and earlier deliveries of the same lane
        that wait for a retry are due too: without them it would have to wait.
        """

    async def matching(self, wanted: ReplayFilter, *, after: str | None, limit: int) -> "Matches":
        """Return at most `limit` deliveries that match, oldest event first, after the delivery with the id `after`."""

    async def replay_at(
        self, due: Mapping[str, datetime], wanted: ReplayFilter, *, now: datetime
    ) -> dict[str, ReplayOutcome]:
        """Make deliveries due at the times in `due` if they still have a wanted status.

        A pending one that is due earlier stays so. Hosts that fail now keep their pauses.
        """


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Deliveries that match a filter. `last` is the id to continue after; None if nothing follows."""

    found: list[Replayable]
    last: str | None
