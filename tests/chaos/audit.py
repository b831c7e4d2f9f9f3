"""Audit after a fault: compares the records of service, sandbox, receiver and clients."""

import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from sqlalchemy import make_url

from tests.acceptance.bookkeeping import RunRecords

UNRECORDED = frozenset({"unread", "broken"})
"""Verdicts of callbacks that are stored and not recorded."""


CLOCK_FAULT = "clock"
"""Part of the names of faults in which the service's times cannot be compared with those of the proxy."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The records after a fault. `confirmed` maps each client's key to the id of its confirmed task.

    `acknowledged` maps the digest of each callback answered with 2xx to the time of its first answer. A callback of a
    settled task is not stored. `inbox` maps the digest of each stored callback to its verdict. `unexpected` lists wrong
    responses.
    """

    fault: str
    injected: Counter[str]
    records: RunRecords
    confirmed: dict[str, str]
    acknowledged: Mapping[str, datetime]
    deferred: int
    inbox: dict[str, str]
    unexpected: list[str]
    seconds: float

    @property
    def recorded(self) -> int:
        """Return the number of acknowledged callbacks that are recorded, or came for a task that was settled then."""
        return sum(self._recorded(digest, at) for digest, at in self.acknowledged.items())

    def _recorded(self, digest: str, at: datetime) -> bool:
        if digest in self.inbox:
            return self.inbox[digest] not in UNRECORDED
        task = next((task for task in self.records.tasks if task["id"] == digest.partition("~")[0]), {})
        settled_at = datetime.fromisoformat(task["settled_at"]) if task.get("settled_at") else None
        return settled_at is not None and (settled_at <= at or CLOCK_FAULT in self.fault)

    @property
    def not_sent(self) -> int:
        """Return the number of tasks without a bill: the process died between the commit and the request."""
        return sum(not self.records.bills_by_task[task["id"]] for task in self.records.tasks)

    @property
    def bills(self) -> int:
        """Return the number of bills."""
        return len(self.records.ledger["bills"])

    @property
    def wrong(self) -> list[str]:
        """Return a sentence for each violation."""
        lost = len(self.acknowledged) - self.recorded
        listed, confirmed = {task["id"] for task in self.records.tasks}, set(self.confirmed.values())
        checks = {
            f"{lost} callbacks were acknowledged and are not recorded": not lost,
            f"verdicts in the inbox: {dict(Counter(self.inbox.values()))}": not UNRECORDED & set(self.inbox.values()),
            f"{len(confirmed - listed)} tasks were confirmed and do not exist": confirmed <= listed,
            f"{len(listed - confirmed)} tasks exist that no client got": listed <= confirmed,
            f"{len(self.confirmed) - len(confirmed)} keys share a task with another": self._one_task_a_key(),
            "no callback was acknowledged": bool(self.acknowledged),
            "no fault was injected": bool(self.injected.total()),
        }
        broken = [sentence for sentence, holds in checks.items() if not holds]
        return [*self.unexpected, *broken, *self.records.faults(count=len(self.confirmed))]

    def _one_task_a_key(self) -> bool:
        return len(self.confirmed) == len(set(self.confirmed.values()))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table: a fault over all of its runs; `broken` lists the reasons of unfinished runs."""

    fault: str
    audits: list[Audit] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def wrong(self) -> list[str]:
        """Return the violations of all runs, without repetitions."""
        found = [*self.broken, *(sentence for audit in self.audits for sentence in audit.wrong)]
        return list(dict.fromkeys(found))

    @property
    def kills(self) -> int:
        """Return the number of kills."""
        return sum(audit.injected["kills"] for audit in self.audits)

    def cells(self) -> list[str]:
        """Return the cells of the row, in the order of HEAD."""
        if self.skipped:
            return [self.fault, f"skipped: {self.skipped}", *[""] * (len(HEAD) - 2)]
        audits = self.audits
        injected: Counter[str] = sum((audit.injected for audit in audits), Counter())
        tasks = sum(len(audit.records.tasks) for audit in audits)
        not_sent = sum(audit.not_sent for audit in audits)
        expected = sum(len(audit.records.expected) for audit in audits)
        delivered = sum(len(audit.records.expected & audit.records.delivered) for audit in audits)
        return [
            f"{self.fault}: VIOLATED" if self.wrong else self.fault,
            ", ".join(f"{count:,} {what}" for what, count in injected.items()),
            f"{tasks:,}",
            f"{sum(audit.deferred for audit in audits):,}",
            _equal(sum(len(audit.acknowledged) for audit in audits), sum(audit.recorded for audit in audits)),
            f"{sum(audit.bills for audit in audits):,} + {not_sent:,}",
            _equal(expected, delivered),
        ]


HEAD = [
    "fault",
    "injected",
    "tasks",
    "deferred (503)",
    "acknowledged = recorded",
    "bills + not sent",
    "deliveries due = made",
]


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _equal(left: int, right: int) -> str:
    return f"{left:,} = {right:,}" if left == right else f"{left:,} ≠ {right:,}"


def read_inbox(database_url: str) -> dict[str, str]:
    """Return the verdict of each callback by its digest, read without the service."""
    query = "SELECT digest, verdict FROM inbox"
    url = make_url(database_url)
    if url.get_backend_name() == "postgresql":
        with psycopg.connect(database_url) as server:
            return dict(server.execute(query).fetchall())
    with closing(sqlite3.connect(f"file:{url.database}?mode=ro", uri=True)) as file:
        return dict(file.execute(query).fetchall())
