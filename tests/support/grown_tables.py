"""Tables full of settled work: copies of one task with its callback, event, delivery and attempt, without ANALYZE."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Table, bindparam, text, update

from service.domain.ports.queues import AttemptResult, HandlerCapacity
from service.domain.ports.unit_of_work import DeliveryRow, EventRow, InboxEntry, RunTime
from service.domain.search import number as number_of
from service.domain.search import task_numbers
from service.domain.task import EventType, Source, Status, Task, TaskId, UpstreamId
from service.storage import Store
from service.storage.column_types import UtcDateTime
from service.storage.delivery_tables import attempts, deliveries
from service.storage.endpoint_tables import endpoints
from service.storage.tables import events, inbox, run_times, tasks

LIKE = TaskId("0000-settled")
PROMPT = "a cat that throws a boomerang"
SETTLED_AT = datetime(2026, 5, 1, tzinfo=UTC)

COPIED: Mapping[Table, Mapping[str, str]] = {
    tasks: {"id": "'old-' || {n}", "upstream_id": "'upstream-' || {n}"},
    inbox: {"digest": "'callback-' || {n}", "task_id": "'old-' || {n}"},
    events: {"id": "'event-' || {n}", "task_id": "'old-' || {n}"},
    deliveries: {
        "id": "'delivery-' || {n}",
        "event_id": "'event-' || {n}",
        "task_id": "'old-' || {n}",
        "lane": "'old-' || {n} || '/nothing'",
    },
    attempts: {"delivery_id": "'delivery-' || {n}"},
    run_times: {},
}
"""The columns that differ in each copy, as SQL with its number `n`."""

WITH_WORD = "volcano"
OTHER_CLIENT = "CASE WHEN n % 10 = 9 THEN 'berta' ELSE client END"
VARIED: Mapping[Table, Mapping[str, str]] = {
    tasks: {
        "client": OTHER_CLIENT,
        "params": f"CASE WHEN n % 16 = 5 THEN replace(params, 'cat', '{WITH_WORD}') ELSE params END",
        "model": "CASE WHEN n % 16 = 3 THEN 'viduq2_pro_text2video' ELSE model END",
        "status": (
            "CASE WHEN n % 16 = 1 THEN 'failed' WHEN n % 500 = 2 THEN 'canceled' WHEN n % 500 = 4 THEN 'expired' "
            "WHEN n % 10000 = 0 THEN 'in_progress' ELSE status END"
        ),
        "output": "CASE WHEN n % 16 = 1 OR n % 500 IN (2, 4) OR n % 10000 = 0 THEN '[]' ELSE output END",
        "settled_at": "CASE WHEN n % 10000 = 0 THEN NULL ELSE {settled_at} END",
    },
    events: {"client": OTHER_CLIENT},
    deliveries: {
        "client": OTHER_CLIENT,
        "handler": "CASE WHEN n % 16 = 7 THEN 'rare' ELSE handler END",
        "status": "CASE WHEN n % 16 = 6 THEN 'dead' ELSE status END",
        "fault": "CASE WHEN n % 48 = 6 THEN 'ours' WHEN n % 16 = 6 THEN 'destination' END",
    },
}
"""What differs with `varied`, as SQL with its number n: one in sixteen, so that each list of 1,000 has a full page."""

SERIES = (
    "WITH RECURSIVE series(n) AS (SELECT CAST(:first AS BIGINT) UNION ALL SELECT n + 1 FROM series WHERE n < :last)"
)
AT_ONCE = 100_000
"""Copies in one transaction: a transaction has a time limit."""


async def grow(
    store: Store,
    rows: int,
    *,
    handler: str = "nothing",
    over: timedelta | None = None,
    at: datetime = SETTLED_AT,
    varied: bool = False,
) -> None:
    """Add `rows` settled tasks, each with a callback, an event, a delivery to `handler`, an attempt and a run time.

    They are all of the moment `at`, or with `over` of moments of that length up to `at`, the oldest first. With
    `varied` they differ as VARIED says, and each is found by its words.
    """
    await _add_one(store, handler, at)
    for table, changed in COPIED.items():
        times = {} if over is None else _times(table, over / rows, postgres=store._database.address.postgres)
        more = _varied(table, times) if varied else {}
        for first in range(1, rows + 1, AT_ONCE):
            values = {"first": first, "last": min(first + AT_ONCE - 1, rows), "rows": rows}
            statement = _copies(table, {**times, **changed, **more})
            await _copy(store, statement, values if over else values | {"rows": None})
    if varied:
        await _add_words(store)


async def add_waiting(store: Store, rows: int) -> None:
    """Add `rows` tasks at the provider and deliveries in lanes of their own, all pending and due in ten years."""
    waiting = {"id": "'waiting-' || {n}", "due_at": _in_ten_years(store), "finished_at": "NULL"}
    task = {"upstream_id": "'at-provider-' || {n}", "status": "'in_progress'", "settled_by": "NULL"}
    lane = {"task_id": "'waiting-' || {n}", "lane": "'waiting-' || {n}", "event_id": "'event-' || {n}"}
    delivery = lane | {"handler": "'waiting'", "status": "'pending'"}
    for table, changed in ((tasks, waiting | task), (deliveries, waiting | delivery)):
        for first in range(1, rows + 1, AT_ONCE):
            await _copy(store, _copies(table, changed), {"first": first, "last": min(first + AT_ONCE - 1, rows)})


def _in_ten_years(store: Store) -> str:
    length = "INTERVAL '3650 days'" if store._database.address.postgres else str(3650 * 86_400 * 1_000_000)
    return f'"created_at" + {length}'


DETAILS = {
    "inputs": "'old-' || {n}, 'payload', 'application/json', '', 0, :empty",
    "input_references": "'old-' || {n}, 'images.0', 'image/png', 'hash-' || {n}, 0",
    "input_data": "'hash-' || {n}, 0, :empty",
    "polls": "n + 1000000000, 'old-' || {n}, :at, 'processing'",
    "task_waits": "'old-' || {n}, 'queue', 1, :at, :at, NULL",
    "refused_callbacks": "'old-' || {n}, 'token', 1, 1, :at, :at",
    "sealed_secrets": "'secret-' || {n}, 'gone-' || {n}, ''",
    "rate_buckets": "'endpoint/' || {n}, :at",
    "handler_jobs": "'job-' || {n}, 'other', 'later', {n}, '{{}}', :later, NULL, 0, 1, 0, :at, NULL, NULL",
    "endpoints (id, client, url, events, description, paused, header_names, sealed, key_id, created_at, updated_at, "
    "consecutive_failures, recent)": (
        "'other-' || {n}, 'of-' || {n}, '', '[]', '', FALSE, '[]', '', '', :at, :at, 0, ''"
    ),
}
"""The columns of rows of other tables, as SQL with the number `n`."""


async def add_details(store: Store, rows: int) -> None:
    """Add `rows` inputs, polls, waits, refused callbacks, secrets, endpoints, their rates, and jobs of handlers.

    The jobs are due in ten years. All belong to other tasks, handlers and clients than those of tests.
    """
    times = {"at": SETTLED_AT, "later": SETTLED_AT + timedelta(days=3650)}
    async with store._database.writing() as write:
        for table, values in DETAILS.items():
            chosen = values.format(n="CAST(n AS TEXT)")
            statement = text(f"INSERT INTO {table} {SERIES} SELECT {chosen} FROM series")  # noqa: S608 - our own names
            used = {name: at for name, at in times.items() if f":{name}" in values}
            bound = [bindparam(name, at, type_=UtcDateTime()) for name, at in used.items()]
            given = {"first": 1, "last": rows} | ({"empty": b""} if ":empty" in values else {})
            await write.connection.execute(statement.bindparams(*bound), given)


async def add_backlog(store: Store, rows: int) -> None:
    """Add `rows` pending deliveries with destinations, unread callbacks, queued tasks and tasks at the provider."""
    await _add_one(store, "nothing")
    queued = {"id": "'queued-' || {n}", "client": "'waiting'", "status": "'queued'", "settled_by": "NULL"}
    queued |= {"upstream_id": "NULL", "due_at": '"created_at"', "deadline_at": _in_ten_years(store)}
    pending = {"id": "'waiting-' || {n}", "event_id": "'event-' || {n}", "lane": "'waiting-' || {n}"}
    pending |= {"status": "'pending'", "due_at": '"created_at"', "finished_at": "NULL"}
    pending |= {"destination": "'host-' || {n}"}
    unread = {"digest": "'unread-' || {n}", "task_id": "'old-' || {n}", "verdict": "'unread'"}
    running = queued | {"id": "'running-' || {n}", "upstream_id": "'at-provider-' || {n}", "status": "'in_progress'"}
    running |= {"due_at": _in_ten_years(store)}
    for table, changed in ((tasks, queued), (tasks, running), (deliveries, pending), (inbox, unread)):
        await _copy(store, _copies(table, changed), {"first": 1, "last": rows})


async def add_parked(store: Store, rows: int) -> None:
    """Add `rows` deliveries that wait for a circuit, others of a paused endpoint, dead letters, and details."""
    await _add_one(store, "nothing")
    pending = {"status": "'pending'", "finished_at": "NULL"}
    blocked = {"circuit": "'circuit-' || {n}", "due_at": _in_ten_years(store)}
    held = {"endpoint_id": "'paused'", "due_at": "NULL"}
    dead = {"status": "'dead'", "due_at": "NULL"}
    for name, changed in (("blocked", blocked), ("held", held), ("dead", dead)):
        named = dict.fromkeys(("id", "event_id", "task_id", "lane"), f"'{name}-' || {{n}}")
        await _copy(store, _copies(deliveries, {**pending, **named, **changed}), {"first": 1, "last": rows})
    await add_details(store, rows)
    paused = update(endpoints).values(id="paused", paused=True).where(endpoints.c.id == "other-1")
    async with store._database.writing() as write:
        await write.connection.execute(paused)


async def add_delivered(store: Store, rows: int) -> None:
    """Add `rows` deliveries of the settled task that have ended, each in a lane of its own."""
    await _add_one(store, "nothing")
    ended = {"id": "'ended-' || {n}", "event_id": "'event-' || {n}", "lane": f"'{LIKE}/' || {{n}}"}
    await _copy(store, _copies(deliveries, ended), {"first": 1, "last": rows})


async def add_postponed(store: Store, rows: int) -> None:
    """Add `rows` queued tasks of the client `waiting`, older than the tasks of tests and due in ten years."""
    await _add_one(store, "nothing")
    queued = {"id": "'postponed-' || {n}", "client": "'waiting'", "status": "'queued'", "settled_by": "NULL"}
    queued |= {"upstream_id": "NULL", "due_at": _in_ten_years(store), "deadline_at": _in_ten_years(store)}
    await _copy(store, _copies(tasks, queued), {"first": 1, "last": rows})


def _varied(table: Table, times: Mapping[str, str]) -> dict[str, str]:
    quoted = {column.name: times.get(column.name, f'"{column.name}"') for column in table.columns}
    return {name: value.format(**quoted) for name, value in VARIED.get(table, {}).items()}


async def _add_words(store: Store) -> None:
    """Add the words of all tasks, as the search index has them."""
    found = dict.fromkeys(task_numbers({"prompt": PROMPT}, {}, []), "")
    found[number_of("w", WITH_WORD)] = f" WHERE params LIKE '%{WITH_WORD}%'"
    for number, where in found.items():
        seqs = f"SELECT {number}, seq FROM events JOIN tasks ON tasks.id = task_id{where}"  # noqa: S608
        await _copy(store, f"INSERT INTO search_words (word, seq) {seqs}", {})
    await _copy(store, "INSERT INTO search_progress (name, seq) SELECT 'events', max(seq) FROM events", {})


async def _copy(store: Store, statement: str, values: Mapping[str, int | None]) -> None:
    async with store._database.writing() as write:
        if store._database.address.postgres:
            await write.connection.execute(text("SET LOCAL statement_timeout = 0"))
        await write.connection.execute(text(statement), {name: one for name, one in values.items() if one is not None})


def _times(table: Table, step: timedelta, *, postgres: bool) -> dict[str, str]:
    """Return the times of the copies as SQL: that of the copied row, earlier by a step for each later copy."""
    earlier = f"(CAST(:rows AS BIGINT) - n) * {step // timedelta(microseconds=1)}"
    shift = f"make_interval(secs => ({earlier}) / 1e6)" if postgres else earlier
    names = [column.name for column in table.columns if isinstance(column.type, UtcDateTime)]
    return {name: f'"{name}" - {shift}' for name in names}


def _copies(table: Table, changed: Mapping[str, str]) -> str:
    """Return the statement that copies the only row of the settled task; numbers are generated anew."""
    names = [column.name for column in table.columns if column.name != "seq"]
    values = [changed[name].format(n="CAST(n AS TEXT)") if name in changed else f'"{name}"' for name in names]
    quoted = ", ".join(f'"{name}"' for name in names)
    like = {tasks: "id", inbox: "task_id", events: "task_id", deliveries: "task_id"}.get(table)
    where = f" WHERE {like} = '{LIKE}'" if like else ""
    source = f"(SELECT * FROM {table.name}{where} LIMIT 1) AS one"  # noqa: S608 - our own names
    return f"INSERT INTO {table.name} ({quoted}) {SERIES} SELECT {', '.join(values)} FROM series, {source}"  # noqa: S608


async def _add_one(store: Store, handler: str, at: datetime = SETTLED_AT) -> None:
    """Add the row of each table that is copied, once."""
    if await store.queries.task(LIKE):
        return
    task = Task(
        id=LIKE,
        client="anna",
        provider="vtrix",
        model="viduq2_pro_reference",
        bucket="viduq2_pro_reference/5",
        created_at=at,
        deadline_at=at + timedelta(hours=2),
        status=Status.COMPLETED,
        upstream_id=UpstreamId("upstream-0"),
        submission=1,
        submitted_at=at,
        settled_at=at,
        settled_by=Source.CALLBACK,
        params={"prompt": PROMPT},
        output=({"type": "video", "url": "https://example.org/cat.mp4"},),
        cost=0.35,
    )
    event = EventRow(id="event-0", task_id=LIKE, client="anna", type=EventType.COMPLETED, at=at, data={"id": LIKE})
    delivery = DeliveryRow(
        id="delivery-0",
        event_id=event.id,
        task_id=LIKE,
        client="anna",
        handler=handler,
        lane=f"{LIKE}/{handler}",
        message_id="msg_delivery-0",
        due_at=at,
    )
    entry = InboxEntry(
        task_id=LIKE, submission=1, digest="callback-0", body=b"{}" * 250, received_at=at, verdict="accepted"
    )
    async with store.units_of_work.transaction() as transaction:
        await transaction.receive([LIKE], [entry])  # the callback of a final task would not be stored
    await store.intake.add(replace(task, cost=0.35), [], None)
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock([LIKE])
        await transaction.append([event], [delivery])
        await transaction.add_run_times([RunTime(bucket=task.bucket, seconds=60.0, called_back=True, at=at)])
    capacity = HandlerCapacity(names=(handler,), slots=1)
    [claim] = await store.deliveries.claim([capacity], now=at, until=at + timedelta(minutes=1))
    result = AttemptResult(
        delivery_id=claim.id, fence=claim.fence, attempt=1, started_at=at, finished_at=at, outcome="delivered"
    )
    await store.deliveries.finish([result])
