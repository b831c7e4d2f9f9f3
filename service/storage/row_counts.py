"""Counts of many rows by the values of some columns, in memory that does not grow with the number of rows.

SQLite sorts what it groups, and keeps all of it in memory until the end; PostgreSQL groups without sorting.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, true

from service.storage.async_engine import AsyncConnection

ROWS_AT_ONCE = 10_000
"""Rows that SQLite groups in one statement: one to two megabytes, and two thirds of the time of many more at once."""


async def count_rows(
    connection: AsyncConnection,
    *columns: ColumnElement[str],
    along: ColumnElement[datetime],
    where: ColumnElement[bool] | None = None,
) -> Counter[tuple[str, ...]]:
    """Return the number of rows for each combination of values of `columns`, of those for which `where` holds.

    `along` is as for `parts`.
    """
    query = select(*columns, func.count()).group_by(*columns)
    if where is not None:
        query = query.where(where)
    counts = Counter[tuple[str, ...]]()
    async for part in parts(connection, along, where):
        rows: list[Any] = list(await connection.execute(query.where(part)))
        counts.update({tuple(row[:-1]): row[-1] for row in rows})
    return counts


async def parts(
    connection: AsyncConnection,
    along: ColumnElement[datetime],
    where: ColumnElement[bool] | None = None,
    values: Mapping[str, object] | None = None,
) -> AsyncIterator[ColumnElement[bool]]:
    """Yield conditions that divide the rows for which `where` holds with these `values`; one where no memory is saved.

    `along` is a time that every row has. An index that begins with it makes each part a range of that index; rows of
    the same time are in one part.
    """
    ends = select(along).order_by(along).offset(ROWS_AT_ONCE - 1).limit(1)
    if where is not None:
        ends = ends.where(where)
    begin: datetime | None = None
    while True:
        later: ColumnElement[bool] = true() if begin is None else along > begin
        end = None
        if connection.dialect.name == "sqlite":
            end = (await connection.execute(ends.where(later), values or {})).scalar()
        if end is None:
            yield later
            return
        yield later & (along <= end)
        begin = end
