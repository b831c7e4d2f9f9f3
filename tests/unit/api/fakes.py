"""A fake application behind the HTTP API: configurable results, recorded calls."""

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
from starlette.types import ASGIApp

from service.api.app import Services, create_app
from service.api.authentication import Pages
from service.api.handlers import HandlerApi
from service.api.request_bodies import FILTER_BODIES, BodyReader
from service.domain.api_key import ApiKey
from service.domain.artifact import StoredContent
from service.domain.blob import Blob
from service.domain.erasure import erased
from service.domain.errors import BadToken
from service.domain.history_position import HistoryEntry, HistoryKind, HistoryPosition, order
from service.domain.link_tokens import LinkTokens
from service.domain.media.limits import Unreadable
from service.domain.ports.audit import AuditEntry, AuditRow
from service.domain.ports.deliveries import DeliverySelection, DeliveryView, DeliveryWindow
from service.domain.ports.health import Gauges
from service.domain.ports.replays import Matches, Replayable, ReplayFilter, ReplayOutcome
from service.domain.ports.search import StatusCount, TaskWindow
from service.domain.ports.tasks import IdempotencyKey, TaskFilter
from service.domain.session_tokens import SessionTokens
from service.domain.task import Json, Status, Task, TaskId
from service.domain.tokens import TokenClaims
from service.domain.usage import UsageRow
from service.storage.local_signals import LocalSignals
from service.tasks.event_feed import EventFeed
from service.tasks.new_task import NewTask, validate_new_task
from tests.support.fake_event_log import FakeEventLog
from tests.support.no_egress_guard import any_address
from tests.unit.api.fake_endpoints import FakeEndpoints, endpoint_parts
from tests.unit.api.fake_handlers import FakeHandlers

NOW = datetime(2026, 5, 6, 12, 9, 42, tzinfo=UTC)
PARTS = (
    "task_service",
    "notes",
    "receiver",
    "replayer",
    "single_pass",
    "queries",
    "blobs",
    "deliveries",
    "contents",
    "links",
    "health",
    "signals",
    "clock",
    "erasure",
    "usage",
)
KEYS = (
    ApiKey(name="ann", key="key-of-ann"),
    ApiKey(name="bob", key="key-of-bob"),
    ApiKey(name="root", key="key-of-root", admin=True),
)
EVENT_NUMBER = re.compile(r"[0-9]+")
POLL: Json = {"at": "2026-05-06T12:09:42.000Z", "kind": "poll", "outcome": "in_progress"}
GOOD = {"model": "viduq2_pro_reference", "params": {"prompt": "a cat", "images": ["https://example.org/cat.png"]}}


def entry_of(row: Json) -> HistoryEntry:
    """Return a row of a history with its position."""
    kind = HistoryKind[row["kind"].upper()]
    keys = {
        HistoryKind.EVENT: "".join(EVENT_NUMBER.findall(str(row.get("id")))).zfill(6),
        HistoryKind.DELIVERY: str(row.get("id")),
        HistoryKind.ATTEMPT: f"{row.get('delivery_id')}.{row.get('attempt')}",
        HistoryKind.POLL: "1",
    }
    at = datetime.fromisoformat(row["at"])
    return HistoryEntry(position=HistoryPosition(at=at, kind=kind, key=keys.get(kind, "")), row=dict(row))


def _comparable(position: HistoryPosition) -> tuple[datetime, int, str]:
    return *order(position), position.key


def a_task(number: int = 1, **changes: Any) -> Task:
    """Return a queued task of the client `local`."""
    task = Task(
        id=TaskId(f"task-{number}"),
        client="local",
        provider="vtrix",
        model="viduq2_pro_reference",
        bucket="viduq2_pro_reference/5/720p",
        created_at=NOW,
        deadline_at=NOW + timedelta(hours=2),
        params={"prompt": "a cat"},
    )
    return replace(task, **changes)


def a_delivery(number: int = 1, **changes: Any) -> DeliveryView:
    """Return a dead delivery of the client `local`."""
    delivery = DeliveryView(
        id=f"delivery-{number}",
        task_id=TaskId("task-1"),
        client="local",
        event_id="event-1",
        event_type="task.completed",
        handler="webhook",
        status="dead",
        attempts=9,
        due_at=None,
        fault="destination",
        last_error="404",
        created_at=NOW,
        finished_at=NOW,
        requested=True,
    )
    return replace(delivery, **changes)


def stored_content(data: bytes, **changes: Any) -> StoredContent:
    """Return a stored video that is read from `data`, in parts of 10 bytes."""

    async def read(start: int, stop: int) -> AsyncIterator[bytes]:
        for at in range(start, stop, 10):
            yield data[at : min(at + 10, stop)]

    fields: dict[str, Any] = {"name": "task-1.mp4", "media_type": "video/mp4", "etag": '"v1"', "sha256": None}
    return StoredContent(**{"size": len(data), "read": read, **fields, **changes})


@dataclass
class FakeApplication:
    """Every use case and port in one object.

    `error` is raised by each method that changes something. `during_wait` is called in each wait. `already_logged` is
    the result of `receive`. With `limited` queued tasks wait for a limit.
    """

    tasks_by_id: dict[str, Task] = field(default_factory=dict)
    deliveries_by_id: dict[str, DeliveryView] = field(default_factory=dict)
    seen_at_once: int = 1000
    payloads: dict[str, str] = field(default_factory=dict)
    created: bool = True
    already_logged: bool = False
    error: Exception | None = None
    limited: bool = False
    not_ready_reason: str | None = None
    accepted: list[NewTask] = field(default_factory=list)
    received: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    due: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    refused_segments: list[str] = field(default_factory=list)
    replayed: list[str] = field(default_factory=list)
    not_replayed: dict[str, ReplayOutcome] = field(default_factory=dict)
    replay_filters: list[ReplayFilter] = field(default_factory=list)
    filters: list[TaskFilter] = field(default_factory=list)
    changes: list[tuple[Json, bool, IdempotencyKey | None]] = field(default_factory=list)
    usage: list[UsageRow] = field(default_factory=list)
    days: list[date] = field(default_factory=list)
    waits: list[tuple[str, float]] = field(default_factory=list)
    entries: list[Json] = field(default_factory=lambda: [POLL])
    endpoints: FakeEndpoints = field(default_factory=FakeEndpoints)
    handlers: FakeHandlers = field(default_factory=FakeHandlers)
    data_by_event: dict[str, Json] = field(default_factory=dict)
    stored: dict[str, StoredContent] = field(default_factory=dict)
    signs: bool = False
    link_tokens: LinkTokens = field(default_factory=lambda: LinkTokens(["a signing key of the tests"]), compare=False)
    during_wait: Callable[["FakeApplication"], None] = lambda _: None
    gauges_now: Gauges = field(
        default_factory=lambda: Gauges(
            tasks={"queued": 3, "completed": 7},
            deliveries={"dead": 2},
            attempts={("webhook", "retry"): 5},
            callbacks={"accepted": 11},
            oldest_unsettled=timedelta(seconds=90),
            oldest_due=timedelta(seconds=1.5),
            in_doubt=1,
        )
    )

    def add(self, *tasks: Task) -> Task:
        """Store tasks; return the last one."""
        self.tasks_by_id.update({task.id: task for task in tasks})
        return tasks[-1]

    def settle(self, task_id: str = "task-1") -> None:
        """Complete a task."""
        self.tasks_by_id[task_id] = replace(self.tasks_by_id[task_id], status=Status.COMPLETED, settled_at=NOW)

    def _maybe_fail(self) -> None:
        if self.error:
            raise self.error

    async def accept(self, new: NewTask) -> tuple[Task, bool]:
        """Validate a task like the task service, record it, and return a stored task."""
        self._maybe_fail()
        validate_new_task(new, handlers=("log", "webhook"), refusal=any_address)
        self.accepted.append(new)
        return self.add(a_task(client=new.client)), self.created

    async def cancel(self, task_id: TaskId, *, only_if_queued: bool = False) -> Task:  # noqa: ARG002 - as in the port
        """Cancel a task."""
        self._maybe_fail()
        return self.add(replace(self.tasks_by_id[task_id], status=Status.CANCELED))

    async def resubmit(self, task_id: TaskId, *, first: bool = False) -> Task:  # noqa: ARG002 - the port's signature
        """Store and return task 2 as the resubmission of any task."""
        self._maybe_fail()
        return self.add(a_task(2, client=self.tasks_by_id[task_id].client, resubmission_of=task_id))

    async def resubmit_changed(
        self, task_id: TaskId, changes: Json, *, admin: bool, idempotency: IdempotencyKey | None
    ) -> tuple[Task, bool]:
        """Store and return task 2 with the changes as its parameters."""
        self._maybe_fail()
        self.changes.append((changes, admin, idempotency))
        task = a_task(2, client=self.tasks_by_id[task_id].client, resubmission_of=task_id, params=changes)
        return self.add(task), self.created

    async def erase(self, task_id: TaskId) -> Task:
        """Erase a task."""
        self._maybe_fail()
        return self.add(erased(self.tasks_by_id[task_id], NOW))

    async def first_day(self, begin: date, last: date) -> date | None:
        """Return the first of these days that has a row of any client."""
        return min((row.day for row in self.usage if begin <= row.day <= last), default=None)

    async def of_day(self, day: date, *, client: str | None) -> list[UsageRow]:
        """Return the rows of a day that the client may see."""
        self.days.append(day)
        return [row for row in self.usage if row.day == day and client in {None, row.client}]

    def verify_token(self, segment: str) -> TokenClaims:
        """Accept every token but `forged`; `receive` decides."""
        if segment == "forged":
            raise BadToken("forged")
        return TokenClaims(task_id=TaskId("t1"), submission=1, token=segment)

    async def poll_at_once(self, claims: TokenClaims) -> None:
        """Record that the task of a callback is due."""
        self._maybe_fail()
        self.due.append(claims.task_id)

    async def receive(self, claim: TokenClaims, headers: Mapping[str, str], body: bytes) -> bool:
        """Record a callback; return whether it is already logged."""
        self._maybe_fail()
        self.received.append((claim.token, dict(headers), body))
        return self.already_logged

    def note_refusal(self, reason: str, segment: str) -> None:
        """Count a refused callback; record the segment of its address."""
        self.refused[reason] += 1
        self.refused_segments.append(segment)

    async def replay(self, delivery_ids: Sequence[str], *, now: datetime) -> dict[str, ReplayOutcome]:
        """Make deliveries pending, but those in `not_replayed`."""
        self._maybe_fail()
        assert now.tzinfo
        found = [each for each in delivery_ids if each not in self.not_replayed]
        for each in found:
            self.deliveries_by_id[each] = replace(self.deliveries_by_id[each], status="pending", due_at=now)
        self.replayed.extend(found)
        return {each: self.not_replayed.get(each, "replayed") for each in delivery_ids}

    async def matching(self, wanted: ReplayFilter, *, after: str | None, limit: int) -> Matches:
        """Return the deliveries with a wanted status, after one of them; record the filter."""
        self._maybe_fail()
        assert limit
        self.replay_filters.append(wanted)
        found = [
            Replayable(id=one.id, handler=one.handler, status="dead" if one.status == "dead" else "pending")
            for one in self.deliveries_by_id.values()
            if one.status in wanted.statuses and (after is None or one.id > after)
        ]
        return Matches(found=found, last=None)

    async def replay_at(
        self, due: Mapping[str, datetime], wanted: ReplayFilter, *, now: datetime
    ) -> dict[str, ReplayOutcome]:
        """Replay each one."""
        assert wanted.statuses
        return await self.replay(list(due), now=now)

    async def reconcile_once(self, *, start_within: timedelta | None = None) -> Mapping[str, int]:
        """Return the counts of a single pass."""
        assert start_within
        self._maybe_fail()
        return {"submitted": 1, "polled": 2, "dispatched": 3}

    async def task(self, task_id: TaskId) -> Task | None:
        """Return one task."""
        return self.tasks_by_id.get(task_id)

    async def ended(self, task_ids: Collection[TaskId]) -> list[TaskId]:
        """Return the settled tasks."""
        return [each for each in task_ids if self.tasks_by_id[each].settled]

    async def tasks(self, wanted: TaskFilter) -> list[Task]:
        """Return tasks, newest (last added) first."""
        self.filters.append(wanted)
        stored = [*self.tasks_by_id.values()]
        rows = [
            each for each in (stored if wanted.oldest_first else stored[::-1]) if wanted.client in (None, each.client)
        ]
        ids = [each.id for each in rows]
        start = ids.index(TaskId(wanted.cursor)) + 1 if wanted.cursor else 0
        return rows[start : start + wanted.limit]

    async def newest_with_key(self, client: str, prefix: str, since: datetime) -> Task | None:
        """Return the newest accepted task whose key begins with `prefix`."""
        assert since.tzinfo
        keys = [each.idempotency.key for each in self.accepted if each.idempotency and each.client == client]
        return next(iter(self.tasks_by_id.values())) if any(key.startswith(prefix) for key in keys) else None

    async def window(self, wanted: TaskFilter) -> TaskWindow:
        """Return the tasks of a list, which it is the end of."""
        found = await self.tasks(wanted)
        return TaskWindow(tasks=[each for each in found if not wanted.statuses or each.status in wanted.statuses])

    async def status_counts(self, wanted: TaskFilter) -> list[StatusCount]:
        """Count the tasks by status."""
        self.filters.append(wanted)
        counts = Counter(task.status.value for task in self.tasks_by_id.values())
        return [StatusCount(status=status, count=count, more=False) for status, count in sorted(counts.items())]

    async def history(self, task_id: TaskId, *, after: HistoryPosition | None = None, limit: int) -> list[HistoryEntry]:
        """Return the next entries of the history of every task: one poll, or `entries`."""
        assert task_id in self.tasks_by_id
        found = [entry_of(row) for row in self.entries]
        return [each for each in found if after is None or _comparable(each.position) > _comparable(after)][:limit]

    async def event_data(self, event_ids: Sequence[str]) -> dict[str, Json]:
        """Return the data of some events."""
        return {each: self.data_by_event[each] for each in event_ids}

    async def deliveries(self, wanted: DeliverySelection) -> DeliveryWindow:
        """Return deliveries, newest (last added) first, of `seen_at_once` rows that are looked at."""
        rows = list(reversed(self.deliveries_by_id.values()))
        start = [each.id for each in rows].index(wanted.cursor) + 1 if wanted.cursor else 0
        window = rows[start : start + self.seen_at_once]
        wanted_values = {name: getattr(wanted, name) for name in ("client", "status", "handler", "fault")}
        found = [
            each
            for each in window
            if all(value in (None, getattr(each, name)) for name, value in wanted_values.items())
        ]
        whole = len(rows) <= start + self.seen_at_once or len(found) >= wanted.limit
        return DeliveryWindow(deliveries=found[: wanted.limit], after=None if whole else window[-1].id)

    async def noted(self, tasks: Sequence[Task]) -> list[Task]:
        """Return `tasks`, with `waits` as the note of queued ones."""
        return [
            replace(task, note="waits") if task.status is Status.QUEUED and self.limited else task for task in tasks
        ]

    async def delivery(self, delivery_id: str) -> DeliveryView | None:
        """Return one delivery."""
        return self.deliveries_by_id.get(delivery_id)

    async def find(self, item: Json) -> StoredContent | None:
        """Return the content with the address of the item."""
        self._maybe_fail()
        return self.stored.get(str(item.get("archived_url")))

    async def thumbnail(self, content: StoredContent) -> StoredContent:
        """Return the thumbnail; there is none of an image."""
        if content.media_type != "video/mp4":
            raise Unreadable("it is damaged")
        return stored_content(b"jpeg", name=f"{content.name}.poster.jpg", media_type="image/jpeg")

    async def signed_url(self, content: StoredContent, method: str, expires_in: timedelta) -> str | None:
        """Return an address with the parameters if the store signs."""
        if not self.signs:
            return None
        return f"https://store.example/{content.name}?{method}&{expires_in.total_seconds():.0f}"

    def token(self, task_id: TaskId, expires: datetime) -> str:
        """Return a real token."""
        return self.link_tokens.token(task_id, expires)

    def read(self, token: str, now: datetime) -> tuple[TaskId, datetime]:
        """Read a real token."""
        return self.link_tokens.read(token, now)

    async def load(self, task_id: TaskId) -> dict[str, Blob]:
        """Fail: the API never reads blobs."""
        raise AssertionError(f"the blobs of {task_id} were read")

    async def stored_at(self, task_id: TaskId) -> frozenset[str]:
        """Return no places: the API never asks for them."""
        raise AssertionError(f"the places of the blobs of {task_id} were read")

    async def payload(self, task_id: TaskId) -> str | None:
        """Return the caller's payload."""
        return self.payloads.get(task_id)

    async def meta_data(self, task_id: TaskId) -> str | None:
        """Return the caller's `meta_data`, kept beside the payload."""
        return self.payloads.get(f"{task_id}/meta_data")

    async def ready(self) -> str | None:
        """Return why the database is not ready, or None."""
        self._maybe_fail()
        return self.not_ready_reason

    async def gauges(self, now: datetime, *, each: float = 1.0) -> Gauges:
        """Return the gauges, at the time of the clock only."""
        assert (now, each) == (NOW, 1.0)
        return self.gauges_now

    def now(self) -> datetime:
        """Return the fixed time."""
        return NOW

    def notify(self, *topics: str) -> None:
        """Wake no waiter."""

    async def wait(self, topic: str, seconds: float) -> bool:
        """Record the wait, call `during_wait`, and return immediately."""
        self.waits.append((topic, seconds))
        self.during_wait(self)
        return True


@dataclass
class FakeAuditLog:
    """An audit log in memory; `error` is raised by `add`."""

    rows: list[AuditEntry] = field(default_factory=list)
    error: Exception | None = None

    async def add(self, entry: AuditEntry) -> int:
        """Record an entry."""
        if self.error:
            raise self.error
        self.rows.append(entry)
        return len(self.rows) - 1

    async def complete(self, number: int, *, target: str, detail: str) -> None:
        """Change an entry."""
        self.rows[number] = replace(self.rows[number], target=target, detail=detail)

    async def remove(self, number: int) -> None:
        """Delete an entry."""
        del self.rows[number]

    async def entries(
        self, *, actor: str | None, action: str | None, target: str | None, before: int | None, limit: int
    ) -> Sequence[AuditRow]:
        """Return all entries."""
        assert (actor, action, target, before) == (None, None, None, None)
        return [AuditRow(seq=seq, entry=entry) for seq, entry in enumerate(self.rows)][:limit]


def app_of(fake: FakeApplication, pages: Pages | None = None, /, **services: Any) -> ASGIApp:
    """Return the application over `fake`, with `services` in place of some of its parts."""
    parts: dict[str, Any] = dict.fromkeys(PARTS, fake)
    parts["feed"] = EventFeed(FakeEventLog(), LocalSignals())
    parts |= {"audit_log": FakeAuditLog(), "logins": SessionTokens(["a signing key of the tests"])}
    parts["circuits"] = fake.handlers
    parts["handler_controls"] = HandlerApi(
        loaded=services.pop("loaded", ()),
        pauses=fake.handlers,
        pending=fake.handlers,
        tester=fake.handlers,
        clock=fake,
        bodies=BodyReader(FILTER_BODIES),
    )
    parts |= endpoint_parts(fake.endpoints, clock=fake, replays=fake)
    return create_app(Services(**(parts | services)), pages)


@asynccontextmanager
async def client_of(app: ASGIApp, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client with the API key `key`; an exception that leaves the application fails the test."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client
