"""Statements of PostgreSQL whose results nobody needs: they share the round trip of the next one, or of the COMMIT."""

from typing import TYPE_CHECKING, Any, cast

from service.storage.async_engine import AsyncConnection

if TYPE_CHECKING:  # needs the optional driver
    from service.storage.pg_driver import Session


def defer(connection: AsyncConnection, statement: str, parameters: Any) -> None:
    """Run a statement of a write transaction of PostgreSQL later, but before its next one; errors are raised there.

    `statement` and `parameters` are those of the driver.
    """
    session = cast("Session", connection.sync_connection.connection.driver_connection)  # type: ignore[union-attr]
    session.defer(statement, parameters)
