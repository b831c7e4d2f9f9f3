"""Statements whose results nobody needs yet: they share the round trip of the next one, or of the COMMIT.

On SQLite a round trip is a hop to the thread of the connection and back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from service.storage.async_engine import AsyncConnection


@dataclass(kw_only=True, slots=True, eq=False)
class Deferred:
    """A statement of the driver that runs before the next one.

    `parameters` are several sets of them if `many`, for SQLite alone. `prepare` is psycopg's option. `rows` are those
    of a statement that returns some, once it has run, and `types` the driver's numbers of their types.
    """

    statement: str
    parameters: Any = None
    many: bool = False
    prepare: bool | None = None
    returns: bool = False
    rows: Sequence[Any] | None = None
    types: tuple[object, ...] = ()


class DeferringConnection(Protocol):
    """A connection of a driver that runs deferred statements before the next one, or before the COMMIT."""

    def defer(self, statement: Deferred) -> None:
        """Run a statement of the transaction together with the next one."""


def defer(connection: AsyncConnection, statement: Deferred) -> Deferred:
    """Run a statement of a write transaction later, but before its next one; errors are raised there."""
    driver = cast("DeferringConnection", connection.sync_connection.connection.driver_connection)  # type: ignore[union-attr]
    driver.defer(statement)
    return statement
