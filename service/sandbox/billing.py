"""Counters of bills, requests and callbacks, so that tests outside of the sandbox can compare them."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

CALLBACK_COUNTS = (
    "sent",
    "delivered",
    "refused",
    "unreachable",
    "lost",
    "doubled",
    "late",
    "reordered",
    "tampered",
    "repeated",
    "forbidden",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bill:
    """Charge for one accepted create. It is charged once, independently of its reply and of the result of its task."""

    number: int
    upstream_id: str
    payload: str | None
    callback_hash: str | None
    cost: str
    at: datetime

    def to_json(self) -> dict[str, object]:
        """Return the bill as `GET /sandbox/ledger` shows it."""
        return {**asdict(self), "at": self.at.isoformat()}


class BillingLog:
    """Hold the bills and the counters of a sandbox."""

    def __init__(self) -> None:
        self.bills: list[Bill] = []
        self.requests: Counter[str] = Counter(dict.fromkeys(("create", "fetch", "cancel", "list", "download"), 0))
        self.callbacks: Counter[str] = Counter(dict.fromkeys(CALLBACK_COUNTS, 0))

    def to_json(self, states: Iterable[str]) -> dict[str, object]:
        """Return all bills and counters; `states` are the states of all tasks."""
        return {
            "bills": [bill.to_json() for bill in self.bills],
            "requests": dict(self.requests),
            "callbacks": dict(self.callbacks),
            "tasks": dict(Counter(states)),
        }


def callback_hash(url: str | None) -> str | None:
    """Return the SHA-256 of a callback address in hex, so that the bills contain no token."""
    return None if url is None else hashlib.sha256(url.encode()).hexdigest()
