"""What a claim on a delivery carries."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.ports import DeliveryClaim, EventRow
from service.store.intake import PAYLOAD, payload_text
from service.store.rows import Values
from service.store.tables import inputs


async def claims_of(
    connection: AsyncConnection, leased: Sequence[Values], carried: Mapping[str, EventRow]
) -> list[DeliveryClaim]:
    """Return claims on deliveries, rows that are `leased`, in their order, with their events and payloads."""
    payloads = await _payloads(connection, {carried[row["event_id"]].task_id for row in leased})
    return [
        DeliveryClaim(
            id=row["id"],
            fence=row["fence"],
            attempt=row["attempts"] + 1,
            handler=row["handler"],
            message_id=row["message_id"],
            target=row["target"],
            event=carried[row["event_id"]],
            payload=payloads.get(carried[row["event_id"]].task_id),
            created_at=row["created_at"],
        )
        for row in leased
    ]


async def _payloads(connection: AsyncConnection, task_ids: Collection[str]) -> dict[str, str | None]:
    if not task_ids:
        return {}
    query = select(inputs.c.task_id, inputs.c.data).where(inputs.c.task_id.in_(task_ids), inputs.c.place == PAYLOAD)
    return {row.task_id: payload_text(row.data) for row in await connection.execute(query)}
