"""Column values that record the result of an attempt: of the attempt, its delivery, and the rest of the lane."""

from dataclasses import dataclass
from datetime import datetime

from service.domain.ports.queues import AttemptResult
from service.storage.task_rows import Values

STATUS_BY_OUTCOME = {"delivered": "delivered", "dead": "dead", "retry": "pending"}


@dataclass(frozen=True, kw_only=True)
class LeasedDelivery:
    """A delivery whose lease is still held under the fence of its claim.

    `attempted` counts its attempts over all replays. `lane_has_others`: its lane has other pending deliveries.
    """

    id: str
    task_id: str
    handler: str
    lane: str
    event_seq: int
    attempted: int
    fence: int
    destination: str | None = None
    endpoint_id: str | None = None
    circuit: str | None = None
    waiting_since: datetime | None = None
    lane_has_others: bool = True


def attempt_values(leased: LeasedDelivery, result: AttemptResult) -> Values:
    """Return the row of the attempt; its number continues over replays."""
    return {
        "delivery_id": leased.id,
        "number": leased.attempted + 1,
        "handler": leased.handler,
        "started_at": result.started_at,
        "finished_at": result.finished_at,
        "outcome": result.outcome,
        "error": result.error,
        "answer_status": result.answer.status if result.answer else None,
        "answer_body": result.answer.body if result.answer else None,
    }


def delivery_values(leased: LeasedDelivery, result: AttemptResult) -> Values:
    """Return the changed columns of the delivery."""
    ended = result.outcome != "retry"
    return {
        "id": leased.id,
        "status": STATUS_BY_OUTCOME[result.outcome],
        "attempts": result.attempt,
        "attempted": leased.attempted + 1,
        "due_at": None if ended else result.due_at or result.finished_at,
        "leased_until": None,
        "manual_at": None,
        "fault": result.fault,
        "last_error": result.last_error,
        "finished_at": result.finished_at if ended else None,
    }


def lane_values(leased: LeasedDelivery, result: AttemptResult) -> Values:
    """Return when the later deliveries of the lane are due: with the retry of its head, or now if the head has ended.

    This keeps claims from reading rows that they cannot lease. The order of the lane does not depend on it.
    """
    ended = result.outcome != "retry"
    due_at = result.finished_at if ended else result.due_at or result.finished_at
    return {"this_task": leased.task_id, "this_lane": leased.lane, "this_seq": leased.event_seq, "due_at": due_at}
