"""Time of a claim with very many pending tasks."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from statistics import median

from service.domain.submission_limits import Limits
from service.domain.task import Status
from service.storage import Store, open_store
from tests.benchmarks.environment import BenchmarkEnvironment, fill, make_task
from tests.benchmarks.table import Pairs, Row, milliseconds

CLAIM_SIZE = 16
MAX_RATIO = 1.5

ClaimFunction = Callable[[Store, datetime], Awaitable[int]]


async def claims(environment: BenchmarkEnvironment) -> list[Row]:
    """Return the time of a claim with very many pending tasks, half of them queued, beside that with few."""
    many, few = (
        await _filled(environment, environment.sizes.pending),
        await _filled(environment, environment.sizes.few_pending),
    )
    kinds: dict[str, ClaimFunction] = {"to submit": _submissions, "to poll": _polls}
    return [await _row(environment, name, claim, many, few) for name, claim in kinds.items()]


async def _row(environment: BenchmarkEnvironment, name: str, claim: ClaimFunction, many: str, few: str) -> Row:
    figures, floors = [], []
    async with open_store(many) as full, open_store(few) as light:
        await claim(full, datetime.now(UTC))  # to warm up
        await claim(light, datetime.now(UTC))
        for _ in range(environment.sizes.pairs):
            floors.append(await _timed(light, claim, environment.sizes.claims))
            figures.append(await _timed(full, claim, environment.sizes.claims))
    pairs = Pairs(figures=figures, floors=floors)
    return Row(
        measure=f"claim of {CLAIM_SIZE} {name}, {environment.sizes.pending:,} tasks pending",
        figure=milliseconds(pairs.figure),
        floor=f"{milliseconds(pairs.floor)} ({environment.sizes.few_pending:,} pending)",
        ratio=pairs.spread,
        target="1.50 or less",
        reached=pairs.ratio <= MAX_RATIO,
    )


async def _timed(store: Store, claim: ClaimFunction, times: int) -> float:
    """Return the median time of a claim; raises RuntimeError if a claim got fewer tasks than its limit."""
    found = []
    for _ in range(times):
        started_at = time.perf_counter()
        got = await claim(store, datetime.now(UTC))
        found.append(time.perf_counter() - started_at)
        if got != CLAIM_SIZE:
            raise RuntimeError(f"{got} claimed of {CLAIM_SIZE}")
    return median(found)


async def _submissions(store: Store, now: datetime) -> int:
    until = now + timedelta(hours=1)
    return len(await store.tasks.claim_submissions(now=now, until=until, limit=CLAIM_SIZE, limits=Limits()))


async def _polls(store: Store, now: datetime) -> int:
    return len(await store.tasks.claim_polls(now=now, until=now + timedelta(hours=1), limit=CLAIM_SIZE))


async def _filled(environment: BenchmarkEnvironment, count: int) -> str:
    database, now = environment.sqlite(f"pending-{count}"), datetime.now(UTC)
    await fill(database, make_task(due_at=now), range(1, count // 2 + 1))
    queued = make_task(status=Status.QUEUED, submission=0, submitted_at=None, due_at=now)
    await fill(database, queued, range(count // 2 + 1, count + 1))
    return database
