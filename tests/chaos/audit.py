"""After a fault: every book is put beside every other, and what does not hold is said in a sentence."""

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field

import psycopg
from sqlalchemy import make_url

from tests.acceptance.bookkeeping import RunRecords

UNRECORDED = frozenset({"unread", "broken"})
"""Verdicts of callbacks that are kept, and of which nothing has come yet."""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What can be read when all is quiet again. `confirmed` are the tasks that clients were told of, by their keys.

    `inbox` says each kept callback's verdict by its digest. `odd` are sentences about what was seen on the way.
    """

    fault: str
    struck: Counter[str]
    records: RunRecords
    confirmed: dict[str, str]
    acknowledged: frozenset[str]
    refused: int
    inbox: dict[str, str]
    odd: list[str]
    seconds: float

    @property
    def recorded(self) -> int:
        """Count the acknowledged callbacks that are in the inbox, and read."""
        return sum(self.inbox.get(digest, "unread") not in UNRECORDED for digest in self.acknowledged)

    @property
    def never_left(self) -> int:
        """Count the tasks without a bill: the process died between writing down that it sends, and sending."""
        return sum(not self.records.bills_by_task[task["id"]] for task in self.records.tasks)

    @property
    def bills(self) -> int:
        """Count the bills."""
        return len(self.records.ledger["bills"])

    @property
    def wrong(self) -> list[str]:
        """Return a sentence for everything that does not hold."""
        lost = len(self.acknowledged) - self.recorded
        listed, confirmed = {task["id"] for task in self.records.tasks}, set(self.confirmed.values())
        checks = {
            f"{lost} callbacks were acknowledged and are not recorded": not lost,
            f"verdicts in the inbox: {dict(Counter(self.inbox.values()))}": not UNRECORDED & set(self.inbox.values()),
            f"{len(confirmed - listed)} tasks were confirmed and are not there": confirmed <= listed,
            f"{len(listed - confirmed)} tasks are there that nobody was told of": listed <= confirmed,
            f"{len(self.confirmed) - len(confirmed)} keys share a task with another": self._one_task_a_key(),
            "no callback was acknowledged": bool(self.acknowledged),
            "nothing happened": bool(self.struck.total()),
        }
        broken = [sentence for sentence, holds in checks.items() if not holds]
        return [*self.odd, *broken, *self.records.faults(count=len(self.confirmed))]

    def _one_task_a_key(self) -> bool:
        return len(self.confirmed) == len(set(self.confirmed.values()))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the table: a fault, over all of its runs; `broken` says of those that came to no end why not."""

    fault: str
    audits: list[Audit] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def wrong(self) -> list[str]:
        """Return every sentence of every run, each once."""
        found = [*self.broken, *(sentence for audit in self.audits for sentence in audit.wrong)]
        return list(dict.fromkeys(found))

    @property
    def kills(self) -> int:
        """Count the kills."""
        return sum(audit.struck["kills"] for audit in self.audits)

    def cells(self) -> list[str]:
        """Return what stands in the row."""
        if self.skipped:
            return [self.fault, "0", "", "", "", "", "", "", f"left out: {self.skipped}"]
        audits = self.audits
        struck: Counter[str] = sum((audit.struck for audit in audits), Counter())
        tasks = sum(len(audit.records.tasks) for audit in audits)
        never_left = sum(audit.never_left for audit in audits)
        expected = sum(len(audit.records.expected) for audit in audits)
        delivered = sum(len(audit.records.expected & audit.records.delivered) for audit in audits)
        return [
            self.fault,
            str(len(audits)),
            ", ".join(f"{count:,} {what}" for what, count in struck.items()),
            f"{tasks:,}",
            f"{sum(audit.refused for audit in audits):,}",
            _equal(sum(len(audit.acknowledged) for audit in audits), sum(audit.recorded for audit in audits)),
            f"{sum(audit.bills for audit in audits):,} + {never_left:,} never left",
            _equal(expected, delivered),
            "WRONG" if self.wrong else "holds",
        ]


HEAD = [
    "fault",
    "runs",
    "struck",
    "tasks",
    "callbacks put off (503)",
    "callbacks acknowledged = recorded",
    "bills of one task each",
    "deliveries due = made",
    "verdict",
]


def table(rows: list[Row]) -> str:
    """Return the rows as a person reads them, in Markdown."""
    lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _equal(left: int, right: int) -> str:
    return f"{left:,} = {right:,}" if left == right else f"{left:,} ≠ {right:,}"


def read_inbox(database_url: str) -> dict[str, str]:
    """Return the verdict on each callback by its digest, read past the service."""
    query = "SELECT digest, verdict FROM inbox"
    url = make_url(database_url)
    if url.get_backend_name() == "postgresql":
        with psycopg.connect(database_url) as server:
            return dict(server.execute(query).fetchall())
    with closing(sqlite3.connect(f"file:{url.database}?mode=ro", uri=True)) as file:
        return dict(file.execute(query).fetchall())
