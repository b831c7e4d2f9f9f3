"""The sealed webhook secrets of clients, until they are deleted."""

from collections.abc import Collection, Sequence
from operator import attrgetter

from sqlalchemy import ColumnElement, delete, select, update

from service.domain.sealed_targets import Resealed, SealedSecret
from service.storage.async_engine import AsyncConnection
from service.storage.bulk_writes import insert_many
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.delivery_tables import DELIVERED, deliveries, sealed_secrets
from service.storage.lookups import first_value
from service.storage.tables import IS_COMPLETED, tasks, unindexed


class SqlSealedSecrets:
    """Implements `SealedSecrets` and `SealedRows`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the sealed secrets with these `ids`, without those that are deleted."""
        async with self._database.reading() as connection:
            return await stored_secrets(connection, ids)

    async def page(self, *, after: str, limit: int) -> dict[str, str]:
        """Return the sealed secrets with the next ids after one, by id."""
        query = select(sealed_secrets.c.id, sealed_secrets.c.sealed).where(sealed_secrets.c.id > after)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.order_by(sealed_secrets.c.id).limit(limit))
            return {row.id: row.sealed for row in rows}

    async def replace(self, changes: Sequence[Resealed]) -> int:
        """Store secrets that were sealed again, unless the row has changed or is deleted; return how many."""
        if not changes:
            return 0
        changed = 0
        async with self._database.writing() as write:
            for each in sorted(changes, key=attrgetter("id")):
                same = (sealed_secrets.c.id == each.id) & (sealed_secrets.c.sealed == each.before)
                statement = update(sealed_secrets).where(same).values(sealed=each.sealed)
                changed += (await write.connection.execute(statement)).rowcount
        return changed


async def stored_secrets(connection: AsyncConnection, ids: Collection[str]) -> dict[str, str]:
    """Return the sealed secrets with these `ids`, without those that are deleted."""
    if not ids:
        return {}
    query = select(sealed_secrets.c.id, sealed_secrets.c.sealed).where(sealed_secrets.c.id.in_(ids))
    return {row.id: row.sealed for row in await connection.execute(query)}


async def lock_secrets(connection: AsyncConnection, ids: Collection[str]) -> set[str]:
    """Return those of `ids` that are stored, locked in their order until the end of the transaction."""
    if not ids:
        return set()
    return set((await connection.execute(LOCK_BY_ID, {"ids": list(ids)})).scalars())


async def insert_secrets(connection: AsyncConnection, secrets: Sequence[SealedSecret]) -> None:
    """Insert the sealed secrets of new tasks."""
    await insert_many(connection, sealed_secrets, [vars(one) for one in sorted(secrets, key=attrgetter("id"))])


def no_longer_needed() -> ColumnElement[bool]:
    """Return the condition that a secret can be deleted: its task has its results and all of its deliveries are made.

    A dead letter can be replayed, and a task with another end or without any result can be submitted again: both need
    the secret.
    """
    own = tasks.c.id == sealed_secrets.c.task_id
    completed = first_value(tasks.c.id, own, IS_COMPLETED, tasks.c.output != [])
    others = first_value(
        deliveries.c.id, deliveries.c.task_id == sealed_secrets.c.task_id, deliveries.c.status != DELIVERED
    )
    return completed.is_not(None) & others.is_(None)


LOCK = select(sealed_secrets.c.id).with_for_update()
LOCK_BY_ID = LOCK.where(in_list(sealed_secrets.c.id, "ids")).order_by(sealed_secrets.c.id)
# Ordered by its key, PostgreSQL would read all of a table that was nearly empty.
LOCK_OF_TASKS = LOCK.where(in_list(sealed_secrets.c.task_id, "task_ids")).order_by(unindexed(sealed_secrets.c.id))
DELETE = delete(sealed_secrets).where(in_list(sealed_secrets.c.task_id, "task_ids"), no_longer_needed())


async def delete_secrets(connection: AsyncConnection, task_ids: Collection[str]) -> None:
    """Delete the secrets of these tasks that no delivery needs any more.

    They are locked first, by a statement of its own: on PostgreSQL each statement sees what was committed before it
    began, and a replay that makes a delivery due again holds the lock until its commit.
    """
    parameters = {"task_ids": list(task_ids)}
    if (await connection.execute(LOCK_OF_TASKS, parameters)).first():
        await connection.execute(DELETE, parameters)
