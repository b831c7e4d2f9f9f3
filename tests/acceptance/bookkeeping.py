"""Compare the records of a run: the tasks and deliveries of the service, and the bills of the sandbox."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from service.domain.errors import BadToken
from service.domain.tokens import Tokens
from tests.acceptance.environment import ALL_SECRETS, SETTLED, Service, Upstream, histories
from tests.acceptance.processes import Json
from tests.acceptance.receiver import Receiver

FINAL_EVENTS = frozenset({"task.completed", "task.failed", "task.canceled"})
UNKNOWN = "submission_unknown"


@dataclass(frozen=True, kw_only=True)
class RunRecords:
    """All records that can be read after a run. `handlers` maps each handler to its event types (None: all)."""

    tasks: list[Json]
    histories: Mapping[str, list[Json]]
    ledger: Json
    handlers: Mapping[str, frozenset[str] | None]
    received: frozenset[str] = frozenset()

    def rows(self, kind: str) -> list[Json]:
        """Return the rows of one kind from every history."""
        return [row for history in self.histories.values() for row in history if row["kind"] == kind]

    @property
    def statuses(self) -> Counter[str]:
        """Count tasks by status."""
        return Counter(task["status"] for task in self.tasks)

    @property
    def sources(self) -> Counter[str]:
        """Count tasks by the source that settled them."""
        return Counter(str(task["settled_by"]) for task in self.tasks)

    @property
    def bills_by_task(self) -> Counter[str | None]:
        """Count the bills of each task by its payload token; None counts the bills without a valid token."""
        tokens = Tokens(ALL_SECRETS)
        return Counter(_owner(tokens, bill["payload"]) for bill in self.ledger["bills"])

    @property
    def attributable_bills(self) -> int:
        """Count the tasks with exactly one bill."""
        task_ids = {task["id"] for task in self.tasks}
        return sum(count == 1 and owner in task_ids for owner, count in self.bills_by_task.items())

    @property
    def in_doubt(self) -> list[Json]:
        """Return the tasks whose submission was in doubt."""
        return [task for task in self.tasks if "task.in_doubt" in self.events_of(task["id"])]

    @property
    def resolutions(self) -> Counter[str]:
        """Count how the tasks in doubt were resolved."""
        return Counter(_resolution(task) for task in self.in_doubt)

    def events_of(self, task_id: str) -> list[str]:
        """Return the types of a task's events, in order."""
        return [row["type"] for row in self.histories[task_id] if row["kind"] == "event"]

    @property
    def settled_twice(self) -> int:
        """Count the tasks with more than one final event, except failures in doubt that the provider corrected."""
        return sum(self._ends(task) > 1 for task in self.tasks)

    def _ends(self, task: Json) -> int:
        ends = [event for event in self.events_of(task["id"]) if event in FINAL_EVENTS]
        corrected = len(ends) == 2 and ends[0] == "task.failed" and task in self.in_doubt
        return 1 if corrected else len(ends)

    @property
    def expected(self) -> set[tuple[str, str]]:
        """Return event and handler of each required delivery."""
        events = self.rows("event")
        return {
            (row["id"], handler)
            for handler, wanted in self.handlers.items()
            for row in events
            if wanted is None or row["type"] in wanted
        }

    @property
    def delivered(self) -> set[tuple[str, str]]:
        """Return event and handler of each successful delivery."""
        done = (row for row in self.rows("delivery") if row["status"] == "delivered")
        return {(row["event_id"], row["handler"]) for row in done}

    @property
    def webhooks(self) -> set[str]:
        """Return the message ids of the delivered webhooks."""
        done = [row for row in self.rows("delivery") if row["handler"] == "webhook" and row["status"] == "delivered"]
        return {f"msg_{row['id']}" for row in done}

    def faults(self, *, count: int) -> list[str]:
        """Return a message for each requirement that is not met; `count` tasks were submitted."""
        without_bill = [task["id"] for task in self.tasks if not self.bills_by_task[task["id"]]]
        checks = {
            f"{len(self.tasks)} tasks exist, {count} were submitted": len(self.tasks) == count,
            f"not every task is settled: {dict(self.statuses)}": set(self.statuses) <= SETTLED,
            f"{len(self.rows('event'))} events, some deliveries are missing: {self._missing()}": not self._missing(),
            f"unexpected deliveries: {len(self.delivered - self.expected)}": self.delivered <= self.expected,
            f"{self.settled_twice} tasks have two final events": self.settled_twice == 0,
            f"bills: {len(self.ledger['bills'])}, of one task each: {self.attributable_bills}": self._bills_fit(),
            f"tasks without a bill that are not failed: {self._unbilled(without_bill)}": not self._unbilled(
                without_bill
            ),
            f"settled by an unknown source: {dict(self.resolutions)}": "other" not in self.resolutions,
            f"webhooks not received: {len(self.webhooks - self.received)}": self.webhooks <= self.received,
        }
        return [sentence for sentence, holds in checks.items() if not holds]

    def _bills_fit(self) -> bool:
        return self.attributable_bills == len(self.ledger["bills"])

    def _missing(self) -> Counter[str]:
        return Counter(handler for _, handler in self.expected - self.delivered)

    def _unbilled(self, task_ids: Iterable[str]) -> list[str]:
        by_id = {task["id"]: task for task in self.tasks}
        return [task_id for task_id in task_ids if by_id[task_id]["status"] != "failed"]


def _owner(tokens: Tokens, payload: str | None) -> str | None:
    try:
        return tokens.read_payload_token(payload or "").task_id
    except BadToken:
        return None


def _resolution(task: Json) -> str:
    if (task["error"] or {}).get("code") == UNKNOWN:
        return f"failed as {UNKNOWN}"
    return {"callback": "by callback", "poll": "by poll or list", "submit": "by its late reply"}.get(
        task["settled_by"], "other"
    )


async def read_records(
    at: Service, sandbox: Upstream, receiver: Receiver, handlers: Mapping[str, frozenset[str] | None]
) -> RunRecords:
    """Read the records of the service, the sandbox and the receiver."""
    tasks = await at.tasks()
    return RunRecords(
        tasks=tasks,
        histories=await histories(at, [task["id"] for task in tasks]),
        ledger=await sandbox.ledger(),
        handlers=handlers,
        received=frozenset(receiver.ids),
    )
