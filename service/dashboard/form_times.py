"""Times in forms: what a `datetime-local` field sends, which has no offset, is UTC."""

from datetime import UTC, datetime

from service.domain.errors import Fault
from service.domain.task_view import rfc3339

EXPECTED = "must be a time in UTC like 2026-05-06T12:09"


def utc_time(text: str, name: str, faults: list[Fault]) -> str | None:
    """Return the time in the field `name` as RFC 3339, None for an empty one; a wrong one adds a fault."""
    if not text.strip():
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
        return rfc3339(moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC))
    except (ValueError, OverflowError):
        faults.append(Fault(loc=(name,), msg=EXPECTED))
        return None


def field_time(moment: datetime) -> str:
    """Return the value of a `datetime-local` field."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M}"
