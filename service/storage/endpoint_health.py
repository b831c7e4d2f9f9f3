"""The health of endpoints, updated in the transaction that stores attempts; it disables endpoints."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import structlog
from sqlalchemy import select

from service.domain.endpoint import DisabledReason, EndpointAttempt, EndpointHealth, after_attempt, disabled_reason
from service.domain.operator_event import OperatorEventType
from service.domain.ports.queues import AttemptResult
from service.storage.async_engine import AsyncConnection
from service.storage.attempt_results import LeasedDelivery
from service.storage.bulk_writes import update_many
from service.storage.column_types import in_list
from service.storage.endpoint_tables import endpoints
from service.storage.operator_events import report
from service.storage.task_rows import Values

HEALTH_NAMES = tuple(EndpointHealth.__dataclass_fields__)
LOCKED = (
    select(endpoints.c.id, endpoints.c.client, endpoints.c.updated_at, *(endpoints.c[name] for name in HEALTH_NAMES))
    .where(in_list(endpoints.c.id, "ids"), endpoints.c.disabled_at.is_(None))
    .order_by(endpoints.c.id)
    .with_for_update()
)

log = structlog.get_logger("boomerang.storage")


async def note_attempts(connection: AsyncConnection, pairs: Sequence[tuple[LeasedDelivery, AttemptResult]]) -> None:
    """Add the attempts to the health of their endpoints, and disable those that no longer work.

    The deliveries are locked already: endpoints are always locked after them. A failed attempt that began before the
    endpoint was enabled or changed says nothing about it.
    """
    by_endpoint: defaultdict[str, list[AttemptResult]] = defaultdict(list)
    for leased, result in pairs:
        if leased.endpoint_id and result.about_destination:
            by_endpoint[leased.endpoint_id].append(result)
    if not by_endpoint:
        return
    changed: list[Values] = []
    for row in (await connection.execute(LOCKED, {"ids": list(by_endpoint)})).mappings():
        health = EndpointHealth(**{name: row[name] for name in HEALTH_NAMES})
        disabled: Values = {"disabled_at": None, "disabled_reason": None}
        if not (current := [each for each in by_endpoint[row["id"]] if _is_current(each, row["updated_at"])]):
            continue
        for attempt in sorted(map(_attempt, current), key=lambda each: each.at):
            health = after_attempt(health, attempt)
            if reason := disabled_reason(health, attempt):
                disabled = {"disabled_at": attempt.at, "disabled_reason": reason}
                await endpoint_disabled(connection, row["id"], row["client"], reason, at=attempt.at)
                break
        changed.append({"id": row["id"], **vars(health), **disabled})
    await update_many(connection, endpoints, changed)


def _is_current(result: AttemptResult, updated_at: datetime) -> bool:
    return result.outcome == "delivered" or result.endpoint_updated_at in {None, updated_at}


def _attempt(result: AttemptResult) -> EndpointAttempt:
    status = result.answer.status if result.answer else None
    error = None if result.outcome == "delivered" else result.error or "Error"
    return EndpointAttempt(at=result.finished_at, error=error, status=status)


async def endpoint_disabled(
    connection: AsyncConnection, endpoint_id: str, client: str, reason: DisabledReason, *, at: datetime
) -> None:
    """Report that an endpoint was disabled, in the transaction that disables it: `service.endpoint_disabled`.

    The row of the endpoint is the durable record; the gauge `boomerang_endpoints` counts the disabled ones.
    """
    log.warning("endpoint disabled", endpoint=endpoint_id, client=client, reason=reason)
    data = {"endpoint": endpoint_id, "client": client, "reason": reason}
    await report(connection, OperatorEventType.ENDPOINT_DISABLED, f"{endpoint_id} {at}", data, at=at)
