"""Counts of the rows of a whole table by the values of some columns, in memory that does not grow with the table.

SQLite sorts what it groups, and keeps all of it in memory until the end; PostgreSQL groups without sorting.
"""

from collections import Counter
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, true

from service.storage.async_engine import AsyncConnection

ROWS_AT_ONCE = 20_000
"""Rows that SQLite groups in one statement: about two megabytes."""


async def count_rows(
    connection: AsyncConnection,
    *columns: ColumnElement[str],
    along: ColumnElement[datetime],
    where: ColumnElement[bool] | None = None,
) -> Counter[tuple[str, ...]]:
    """Return the number of rows for each combination of values of `columns`, of those for which `where` holds.

    `along` is a time that every row has. An index that begins with it makes each part a range of that index; rows of
    the same time are in one part.
    """
    query, ends = select(*columns, func.count()).group_by(*columns), select(along).order_by(along)
    if where is not None:
        query, ends = query.where(where), ends.where(where)
    counts = Counter[tuple[str, ...]]()
    begin: datetime | None = None
    while True:
        later = true() if begin is None else along > begin
        end = None
        if connection.dialect.name == "sqlite":
            end = (await connection.execute(ends.where(later).offset(ROWS_AT_ONCE - 1).limit(1))).scalar()
        part: ColumnElement[bool] = later if end is None else later & (along <= end)
        rows: list[Any] = list(await connection.execute(query.where(part)))
        counts.update({tuple(row[:-1]): row[-1] for row in rows})
        if end is None:
            return counts
        begin = end
