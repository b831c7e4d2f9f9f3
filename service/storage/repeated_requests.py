"""Equal requests of a client that several processes have got: one makes the task, in whatever order they commit.

A request and its repeat have different keys. The transactions that store their tasks run one after the other, and each
looks for the task of the other one first.
"""

from sqlalchemy import func, select, update

from service.domain.ports.tasks import RepeatedRequest
from service.domain.task import Task
from service.storage.async_engine import AsyncConnection
from service.storage.dialects import advisory_lock
from service.storage.tables import tasks
from service.storage.task_rows import TASK_COLUMNS, task_from_row


async def task_of_equal_request(connection: AsyncConnection, client: str, request: RepeatedRequest) -> Task | None:
    """Return the task of a request that `request` repeats, or that of its repeat; None if there is none.

    The task of a repeat is for one request: afterwards its key is that of an original one, so that another equal
    request makes its own task.
    """
    await advisory_lock(connection, f"requests of {client} {request.prefix}")
    begin = request.prefix if request.repeats else request.repeat_prefix
    query = (
        select(*TASK_COLUMNS)
        .where(
            tasks.c.client == client,
            tasks.c.created_at >= request.since,
            func.substr(tasks.c.idempotency_key, 1, len(begin)) == begin,
        )
        .order_by(tasks.c.created_at.desc(), tasks.c.id.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    found = task_from_row(row)
    if not request.repeats:
        taken = update(tasks).where(tasks.c.id == found.id).values(idempotency_key=request.prefix + found.id)
        await connection.execute(taken)
    return found
