"""The pause of all submissions while the provider's account has no credit, shared by all processes."""

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import delete, select, update

from service.domain.credit_pause import PROBE_TIME, CreditPause, after_refusal
from service.storage.async_engine import AsyncConnection
from service.storage.database import Database
from service.storage.dialects import advisory_lock, insert
from service.storage.tables import submission_pauses

CREDIT = "credit"
"""The name of its row."""

STORED = select(
    submission_pauses.c.since,
    submission_pauses.c.refused_at,
    submission_pauses.c.resume_at,
    submission_pauses.c.refusals,
).where(submission_pauses.c.name == CREDIT)


class SqlCreditPauses:
    """Implements `CreditPauses`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def current(self) -> CreditPause | None:
        """Return the pause, None while there is none."""
        async with self._database.reading() as connection:
            return await load_pause(connection)

    async def refused(self, *, submitted_at: datetime, now: datetime) -> CreditPause:
        """Begin or lengthen the pause after the refusal of a submission that began at `submitted_at`; return it."""
        async with self._database.writing() as write:
            await advisory_lock(write.connection, "submissions")  # as claims do, which read the pause
            before = await load_pause(write.connection)
            after = after_refusal(before, submitted_at, now)
            if after is not before:
                statement = insert(write.connection, submission_pauses)
                values = {name: statement.excluded[name] for name in asdict(after)}
                upsert = statement.on_conflict_do_update(index_elements=["name"], set_=values)
                await write.connection.execute(upsert, {"name": CREDIT, **asdict(after)})
            return after

    async def accepted(self, *, submitted_at: datetime) -> bool:
        """End the pause: a submission that began after the last refusal was accepted. Return whether there was one."""
        ended = delete(submission_pauses).where(
            submission_pauses.c.name == CREDIT, submission_pauses.c.refused_at <= submitted_at
        )
        async with self._database.writing() as write:
            found = (await write.connection.execute(ended)).rowcount > 0
            if found:
                write.topics.add("submit")
            return found


async def load_pause(connection: AsyncConnection) -> CreditPause | None:
    """Return the stored pause, None for none."""
    row = (await connection.execute(STORED)).mappings().one_or_none()
    return None if row is None else CreditPause(**row)


async def begin_probe(connection: AsyncConnection, now: datetime) -> None:
    """Let no other task be tried until the result of the one that is claimed now can be known."""
    await connection.execute(
        update(submission_pauses).where(submission_pauses.c.name == CREDIT).values(resume_at=now + PROBE_TIME)
    )
