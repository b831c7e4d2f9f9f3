"""Where the scan of a queue begins on PostgreSQL: behind the index entries of rows that have ended.

While an old snapshot is open (`pg_dump`, a long report, a transaction that nobody ended), PostgreSQL can remove no
entry of an index, and a scan from the beginning of a queue reads the entries of all rows that have ended since: the
longer the snapshot is open, the slower each claim. A scan that begins at the oldest row that waits does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select

from service.storage.async_engine import AsyncConnection
from service.storage.column_types import EPOCH

FOUND_FOR = timedelta(seconds=10)
"""How long the oldest waiting row that was found is used, before it is looked for again."""

MARGIN = timedelta(seconds=10)
"""How far before it a scan begins: rows of slow transactions, and of processes whose clocks are late, appear there.

One that is older still is found when FOUND_FOR is over.
"""


@dataclass(kw_only=True, slots=True)
class ScanStarts:
    """Returns the time from which on the rows of a queue are read.

    `oldest` selects the oldest waiting row, its time first.
    """

    oldest: Select[Any]
    _found: dict[str, tuple[datetime, datetime]] = field(default_factory=dict, init=False)  # by queue: when, and start

    async def find(self, connection: AsyncConnection, queue: str, values: Mapping[str, Any], now: datetime) -> datetime:
        """Return the start for `queue`, whose oldest row `values` select.

        On SQLite, which has one writer and no such entries, it is EPOCH.
        """
        if connection.dialect.name != "postgresql":
            return EPOCH
        found_at, start = self._found.get(queue, (EPOCH, EPOCH))
        if not found_at <= now < found_at + FOUND_FOR:  # a clock may have been set back
            oldest: datetime | None = (await connection.execute(self.oldest, values)).scalar()
            start = min(oldest or now, now) - MARGIN
            self._found[queue] = now, start
        return start
