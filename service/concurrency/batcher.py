"""Groups items into commits: while one commit runs, new items wait for the next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableSequence, Sequence
from itertools import islice
from typing import Generic, TypeVar

from service.domain.errors import StoreUnavailable

COMMIT_DELAY = 0.005
"""Seconds that a commit waits for items that are about to be added, as `commit_delay` of PostgreSQL does."""

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Groups the items of concurrent callers into few calls of `commit`, one at a time, in the order of arrival.

    `commit` takes up to `max_items` items and returns one result for each, in the same order. An added item is
    committed even when its caller has stopped waiting. With `weigh`, the items of one commit weigh at most
    `max_weight` together, unless it is a single item.
    """

    def __init__(
        self,
        commit: Callable[[list[T]], Awaitable[list[R]]],
        *,
        max_items: int,
        weigh: Callable[[T], int] | None = None,
        max_weight: int = 0,
    ) -> None:
        self._commit = commit
        self._max_items = max_items
        self._weigh = weigh
        self._max_weight = max_weight
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._due = asyncio.Event()

    async def add(self, item: T, *, more_soon: bool = False) -> R:
        """Return the result of `item` after the commit of its batch; raises the error of that commit.

        With `more_soon`, others are about to be added: the commit waits for the last of them, COMMIT_DELAY at most.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if not more_soon:
            self._due.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._run(), name="batcher")
            self._worker.add_done_callback(self._worker_ended)
        return await future

    async def flush(self) -> None:
        """Wait until no item waits for a commit."""
        while self._worker:
            await asyncio.wait([self._worker])

    async def _run(self) -> None:
        batch: list[tuple[T, asyncio.Future[R]]] = []
        try:
            while self._waiting:
                await self._wait_for_more()
                batch = [self._waiting.popleft() for _ in range(self._next_size())]
                if self._waiting:  # the batch is full
                    self._due.set()
                await self._commit_batch(batch)
        finally:
            self._worker = None
            _cancel(batch)
            _cancel(self._waiting)

    async def _wait_for_more(self) -> None:
        """Wait until an item was added that no other follows soon, COMMIT_DELAY at most."""
        if not self._due.is_set():
            timer = asyncio.get_running_loop().call_later(COMMIT_DELAY, self._due.set)
            try:
                await self._due.wait()
            finally:
                timer.cancel()
        self._due.clear()

    def _worker_ended(self, worker: asyncio.Task[None]) -> None:
        """Cancel what waits for a worker that was cancelled before its first step, when no code of it runs."""
        if self._worker is worker:
            self._worker = None
            _cancel(self._waiting)

    async def _commit_batch(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        results: list[R] = []
        failure: Exception | None = None
        try:
            results = await self._commit([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - every caller of the batch gets it, and the next batch follows
            failure = error
        if failure is None and len(results) != len(batch):
            failure = RuntimeError(f"a commit of {len(batch)} items returned {len(results)} results")
        for index, (_, future) in enumerate(batch):
            if future.done():
                continue
            if failure:
                future.set_exception(failure)
            else:
                future.set_result(results[index])

    def _next_size(self) -> int:
        """Return how many of the waiting items share the next commit."""
        if self._weigh is None:
            return min(self._max_items, len(self._waiting))
        size = weight = 0
        for item, _ in islice(self._waiting, self._max_items):
            weight += self._weigh(item)
            if weight > self._max_weight:
                break
            size += 1
        return max(1, size)


def _cancel(batch: MutableSequence[tuple[T, asyncio.Future[R]]]) -> None:
    """Cancel the futures that are not done, as when the event loop is being closed, and remove all items."""
    for _, future in batch:
        future.cancel()
    batch.clear()


async def commit_or_bisect(
    commit: Callable[[list[T]], Awaitable[Sequence[R | Exception]]], items: list[T]
) -> list[R | Exception]:
    """Commit `items` together; bisect them while an item that cannot be stored would fail the others.

    Return for each, in order, its result or its own error. While the store is unavailable every item has that error,
    and none is retried.
    """
    try:
        return list(await commit(items))
    except Exception as error:  # noqa: BLE001 - each caller gets its own outcome
        if isinstance(error, StoreUnavailable) or len(items) == 1:
            return [error] * len(items)
    half = len(items) // 2
    return [*await commit_or_bisect(commit, items[:half]), *await commit_or_bisect(commit, items[half:])]
