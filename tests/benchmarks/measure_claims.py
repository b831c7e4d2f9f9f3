"""What claiming costs when very much waits."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from statistics import median

from service.domain.ports.queues import Limits
from service.domain.task import Status
from service.storage import Store, open_store
from tests.benchmarks.environment import Stage, a_task, fill
from tests.benchmarks.table import Pairs, Row, milliseconds

AT_ONCE = 16
MOST = 1.5

Claim = Callable[[Store, datetime], Awaitable[int]]


async def claims(stage: Stage) -> list[Row]:
    """Return the time of a claim with very many pending tasks, half of them queued, beside that with few."""
    many, few = await _filled(stage, stage.sizes.pending), await _filled(stage, stage.sizes.few)
    kinds: dict[str, Claim] = {"to submit": _submissions, "to poll": _polls}
    return [await _row(stage, name, claim, many, few) for name, claim in kinds.items()]


async def _row(stage: Stage, name: str, claim: Claim, many: str, few: str) -> Row:
    figures, floors = [], []
    async with open_store(many) as full, open_store(few) as light:
        await claim(full, datetime.now(UTC))  # to warm up
        await claim(light, datetime.now(UTC))
        for _ in range(stage.sizes.pairs):
            floors.append(await _timed(light, claim, stage.sizes.claims))
            figures.append(await _timed(full, claim, stage.sizes.claims))
    pairs = Pairs(figures=figures, floors=floors)
    return Row(
        measure=f"claim of {AT_ONCE} {name}, {stage.sizes.pending:,} tasks pending",
        figure=milliseconds(pairs.figure),
        floor=f"{milliseconds(pairs.floor)} ({stage.sizes.few:,} pending)",
        ratio=pairs.spread,
        target="1.50 or less",
        reached=pairs.ratio <= MOST,
    )


async def _timed(store: Store, claim: Claim, times: int) -> float:
    """Return the median time of a claim; RuntimeError when one got less than it asked for."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        got = await claim(store, datetime.now(UTC))
        found.append(time.perf_counter() - began)
        if got != AT_ONCE:
            raise RuntimeError(f"{got} claimed of {AT_ONCE}")
    return median(found)


async def _submissions(store: Store, now: datetime) -> int:
    until = now + timedelta(hours=1)
    return len(await store.tasks.claim_submissions(now=now, until=until, limit=AT_ONCE, limits=Limits()))


async def _polls(store: Store, now: datetime) -> int:
    return len(await store.tasks.claim_polls(now=now, until=now + timedelta(hours=1), limit=AT_ONCE))


async def _filled(stage: Stage, count: int) -> str:
    database, now = stage.sqlite(f"pending-{count}"), datetime.now(UTC)
    await fill(database, a_task(due_at=now), range(1, count // 2 + 1))
    queued = a_task(status=Status.QUEUED, submission=0, submitted_at=None, due_at=now)
    await fill(database, queued, range(count // 2 + 1, count + 1))
    return database
