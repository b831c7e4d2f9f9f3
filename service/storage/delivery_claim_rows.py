"""Claims on deliveries, with the event and the caller's payload that they carry."""

from typing import Any

from sqlalchemy import ColumnElement, Select, select

from service.domain.ports.unit_of_work import DeliveryClaim, EventRow
from service.storage.blob_store import PAYLOAD, payload_text
from service.storage.delivery_tables import is_probe
from service.storage.tables import events, inputs
from service.storage.task_rows import Values


def with_payload(*columns: ColumnElement[Any]) -> Select[Any]:
    """Return a query for `columns` of events, and for the payload blob of their tasks as `payload`."""
    matches = (inputs.c.task_id == events.c.task_id) & (inputs.c.place == PAYLOAD)
    return select(*columns, inputs.c.data.label("payload")).select_from(events.outerjoin(inputs, matches))


def delivery_claim(row: Values, event: EventRow, payload: bytes | None, *, abandoned: bool = False) -> DeliveryClaim:
    """Return the claim on the leased delivery `row`; `abandoned` is True if an earlier lease of it ran out."""
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
        manual=row.get("manual_at") is not None,
        endpoint_id=row["endpoint_id"],
        probe=is_probe(row.get("circuit")),
        waiting_since=row.get("waiting_since"),
    )
