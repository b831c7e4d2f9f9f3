"""Where an entry stands in the history of a task, as text for cursors. Only computes."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from service.domain.task import Json

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class HistoryKind(IntEnum):
    """Kinds of entries in the order in which entries of the same time come: causes before their effects."""

    CREATED = 0
    WAIT = 1
    EVENT = 2
    CALLBACK = 3
    REFUSED_CALLBACK = 4
    POLL = 5
    DELIVERY = 6
    ATTEMPT = 7
    WAITING = 8


ID, NUMBER, COUNT = "[A-Za-z0-9_-]{1,64}", "[0-9]{1,18}", "[0-9]{1,9}"
KEYS = {
    HistoryKind.CREATED: "",
    HistoryKind.WAIT: ID,
    HistoryKind.EVENT: NUMBER,
    HistoryKind.CALLBACK: ID,
    HistoryKind.REFUSED_CALLBACK: ID,
    HistoryKind.POLL: NUMBER,
    HistoryKind.DELIVERY: ID,
    HistoryKind.ATTEMPT: rf"{ID}\.{COUNT}",
    HistoryKind.WAITING: "",
}
"""The form of the key of each kind: an id, a number that fits its column, or both for an attempt."""

_POSITION = re.compile("([0-9]{1,17})-([0-8])-(.*)")


@dataclass(frozen=True, kw_only=True)
class HistoryPosition:
    """The position of an entry: its time, its kind and what distinguishes it from others of that kind and time.

    Neither new entries nor deleted ones move it.
    """

    at: datetime
    kind: HistoryKind
    key: str = ""

    def __str__(self) -> str:
        """Return the text that `parse_position` reads."""
        return f"{(self.at - EPOCH) // MICROSECOND}-{self.kind:d}-{self.key}"


@dataclass(frozen=True, kw_only=True)
class HistoryEntry:
    """An entry of a history as plain JSON, with its position."""

    position: HistoryPosition
    row: Json


def order(position: HistoryPosition) -> tuple[datetime, int]:
    """Return by what positions of different kinds are ordered."""
    return position.at, position.kind


def parse_position(text: str) -> HistoryPosition | None:
    """Return the position that `text` states, None for any other text."""
    found = _POSITION.fullmatch(text)
    if found is None:
        return None
    kind = HistoryKind(int(found[2]))
    if not re.fullmatch(KEYS[kind], found[3]):
        return None
    return HistoryPosition(at=EPOCH + int(found[1]) * MICROSECOND, kind=kind, key=found[3])
