"""What an attempt's outcome writes: on its delivery, and on those that wait behind it."""

from dataclasses import dataclass

from service.domain.ports.queues import AttemptResult
from service.storage.task_rows import Values

STATUS_BY_OUTCOME = {"delivered": "delivered", "dead": "dead", "retry": "pending"}


@dataclass(frozen=True, kw_only=True)
class LeasedDelivery:
    """A delivery whose claim still fits: where it stands in its lane, and how many attempts it ever had.

    `followed` says whether others of its lane are waiting.
    """

    id: str
    handler: str
    lane: str
    event_seq: int
    attempted: int
    fence: int
    followed: bool = True


def attempt_values(held: LeasedDelivery, result: AttemptResult) -> Values:
    """Return the row of the attempt; its number goes on over replays."""
    return {
        "delivery_id": held.id,
        "number": held.attempted + 1,
        "handler": held.handler,
        "started_at": result.started_at,
        "finished_at": result.finished_at,
        "outcome": result.outcome,
        "error": result.error,
    }


def delivery_values(held: LeasedDelivery, result: AttemptResult) -> Values:
    """Return what becomes of the delivery."""
    ended = result.outcome != "retry"
    return {
        "id": held.id,
        "status": STATUS_BY_OUTCOME[result.outcome],
        "attempts": result.attempt,
        "attempted": held.attempted + 1,
        "due_at": None if ended else result.due_at or result.finished_at,
        "leased_until": None,
        "fault": result.fault,
        "last_error": result.error,
        "finished_at": result.finished_at if ended else None,
    }


def lane_values(held: LeasedDelivery, result: AttemptResult) -> Values:
    """Return when those behind in the lane are due: with the head's retry, or now that it has ended.

    It only spares the claim from looking at them in vain; the order itself does not rest on it.
    """
    ended = result.outcome != "retry"
    due_at = result.finished_at if ended else result.due_at or result.finished_at
    return {"this_lane": held.lane, "this_seq": held.event_seq, "due_at": due_at}
