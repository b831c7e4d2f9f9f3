"""What a claim on a delivery carries: its event, and what the caller gave with the task."""

from typing import Any

from sqlalchemy import ColumnElement, Select, select

from service.domain.ports.unit_of_work import DeliveryClaim, EventRow
from service.storage.tables import events, inputs
from service.storage.task_intake import PAYLOAD, payload_text
from service.storage.task_rows import Values


def with_payload(*columns: ColumnElement[Any], where: ColumnElement[bool] | None = None) -> Select[Any]:
    """Return the query for `columns` of events, and as `payload` the blob that came with their tasks.

    It is up to 1 MiB: of events to which `where` does not apply it is not read.
    """
    given = (inputs.c.task_id == events.c.task_id) & (inputs.c.place == PAYLOAD)
    given = given if where is None else given & where
    return select(*columns, inputs.c.data.label("payload")).select_from(events.outerjoin(inputs, given))


def delivery_claim(row: Values, event: EventRow, payload: bytes | None, *, abandoned: bool = False) -> DeliveryClaim:
    """Return the claim on the delivery `row`, which is leased; `abandoned` if it was so before, and for too long."""
    return DeliveryClaim(
        id=row["id"],
        fence=row["fence"],
        attempt=row["attempts"] + 1,
        handler=row["handler"],
        message_id=row["message_id"],
        target=row["target"],
        event=event,
        payload=payload_text(payload),
        created_at=row["created_at"],
        abandoned=abandoned,
    )
