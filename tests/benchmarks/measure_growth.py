"""Handlers a second and the time of a claim with many settled tasks in the tables, beside those with few.

The rows are added in bulk and nothing is analysed, as after a burst. Settings are those of `measure_defaults` with
CONFIRM=never, but for UPSTREAM_RATE, which has no effect then: no provider is asked. The callbacks are sent as soon as
a process is ready, while it still imports the pages: compare the two columns of a row, not the rates with others.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from statistics import median

from service.domain.ports.queues import HandlerCapacity
from service.domain.ports.unit_of_work import DeliveryRow, EventRow
from service.domain.task import EventType, TaskId
from service.storage import Store, migrate, open_store
from tests.acceptance.processes import until
from tests.benchmarks.environment import BenchmarkEnvironment, callbacks, fill, make_task, query_value, stopping
from tests.benchmarks.measure_defaults import HANDLER
from tests.benchmarks.table import Pairs, Row, milliseconds, rate
from tests.support.grown_tables import SETTLED_AT, grow
from tests.support.postgres import PostgresServer, create_database, postgres_server

CLAIM_SIZE = 16
MAX_RATIO = 1.3
NEW_SINCE = SETTLED_AT + timedelta(days=1)
NEW = {
    True: f"FROM deliveries WHERE created_at > '{NEW_SINCE.isoformat()}' AND status = 'delivered'",
    False: f"FROM deliveries WHERE created_at > {int(NEW_SINCE.timestamp() * 1e6)} AND status = 'delivered'",
}
"""The deliveries that are not among the settled rows, on PostgreSQL or not."""
END = {True: "extract(epoch FROM max(finished_at))", False: "max(finished_at) / 1e6"}


async def growth(environment: BenchmarkEnvironment) -> list[Row]:
    """Return handlers a second and claim times with many settled tasks, on each database."""
    (environment.workspace.home / "handlers").mkdir(exist_ok=True)
    (environment.workspace.home / "handlers" / "nothing.py").write_text(HANDLER)
    sizes, rows = environment.sizes, list[Row]()
    with postgres_server(durable=True) as server:
        for name in ("SQLite", "PostgreSQL"):
            with _databases(environment, server if name == "PostgreSQL" else None) as (few, many):
                for database, settled in ((few, sizes.few_settled), (many, sizes.many_settled)):
                    await _grow(database, settled)
                rows += await _pairs(environment, name, few, many)
    return rows


async def _pairs(environment: BenchmarkEnvironment, name: str, few: str, many: str) -> list[Row]:
    rates: dict[str, list[float]] = {few: [], many: []}
    claims: dict[str, list[float]] = {few: [], many: []}
    for turn in range(environment.sizes.pairs):
        for database in (few, many):
            rates[database].append(await _handlers(environment, database, turn))
            claims[database].append(await _claims(database, turn, environment.sizes.claims))
    handled = Pairs(figures=rates[few], floors=rates[many])  # few over many: above 1 if growth costs something
    claimed = Pairs(figures=claims[many], floors=claims[few])
    settled = f"{environment.sizes.many_settled:,} settled tasks, {name}"
    beside = f"({environment.sizes.few_settled:,} settled)"
    return [
        _row(
            f"handlers run, {settled}, CONFIRM=never", rate(handled.floor), f"{rate(handled.figure)} {beside}", handled
        ),
        _row(
            f"claim of {CLAIM_SIZE} deliveries, {settled}",
            milliseconds(claimed.figure),
            f"{milliseconds(claimed.floor)} {beside}",
            claimed,
        ),
    ]


def _row(measure: str, figure: str, floor: str, pairs: Pairs) -> Row:
    reached = pairs.ratio <= MAX_RATIO
    return Row(measure=measure, figure=figure, floor=floor, ratio=pairs.spread, target="1.30 or less", reached=reached)


async def _handlers(environment: BenchmarkEnvironment, database: str, turn: int) -> float:
    """Send a callback of each of some new tasks; return handlers a second until the last one has run."""
    count, postgres = environment.sizes.growth, database.startswith("postgres")
    numbers = range(turn * count + 1, (turn + 1) * count + 1)
    await fill(database, make_task(), numbers, analyze=False)
    file = environment.requests("growth", callbacks(numbers))
    service = await environment.service(database, role="all", HANDLERS="nothing", CONFIRM="never")
    async with stopping(service):
        report = await environment.load(service, file)
        report.rate("204")

        async def all_delivered() -> bool:
            return int(await query_value(database, f"SELECT count(*) {NEW[postgres]}")) == numbers.stop - 1

        await until(all_delivered, what="every delivery", pause=0.25, seconds=300)
    return count / (float(await query_value(database, f"SELECT {END[postgres]} {NEW[postgres]}")) - report.began_at)


async def _claims(database: str, turn: int, times: int) -> float:
    """Return the median seconds of a claim of CLAIM_SIZE deliveries that wait."""
    now, found = datetime.now(UTC), list[float]()
    async with open_store(database) as store:
        await _add_waiting(store, f"waiting-{turn}", now, times * CLAIM_SIZE)
        capacity = HandlerCapacity(names=(f"waiting-{turn}",), slots=CLAIM_SIZE)
        for _ in range(times):
            started_at = time.perf_counter()
            claims = await store.deliveries.claim([capacity], now=now, until=now + timedelta(hours=1))
            found.append(time.perf_counter() - started_at)
            if len(claims) != CLAIM_SIZE:
                raise RuntimeError(f"{len(claims)} claimed of {CLAIM_SIZE}")
    return median(found)


async def _add_waiting(store: Store, handler: str, now: datetime, count: int) -> None:
    ids = [f"{handler}-{number}" for number in range(count)]
    events = [
        EventRow(id=one, task_id=TaskId(one), client="anna", type=EventType.COMPLETED, at=now, data={}) for one in ids
    ]
    rows = [
        DeliveryRow(
            id=one,
            event_id=one,
            task_id=TaskId(one),
            client="anna",
            handler=handler,
            lane=one,
            message_id=one,
            due_at=now,
        )
        for one in ids
    ]
    async with store.units_of_work.transaction() as transaction:
        await transaction.append(events, rows)


async def _grow(database: str, settled: int) -> None:
    await migrate(database)
    async with open_store(database) as store:
        await grow(store, settled)


@contextmanager
def _databases(environment: BenchmarkEnvironment, server: PostgresServer | None) -> Iterator[tuple[str, str]]:
    """Yield the addresses of two empty databases; files are deleted afterwards."""
    if server:
        yield create_database(server.url), create_database(server.url)
        return
    yield environment.sqlite("growth-few"), environment.sqlite("growth-many")
    for file in environment.workspace.home.glob("growth-*.db*"):
        file.unlink()
