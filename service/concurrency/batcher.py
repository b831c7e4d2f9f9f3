"""Groups items into commits: while one commit runs, new items wait for the next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate, islice, takewhile
from typing import Generic, TypeVar

from service.domain.errors import StoreUnavailable

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

    async def add(self, item: T) -> R:
        """Return the result of `item` after the commit of its batch; raises the error of that commit."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._run(), name="batcher")
        return await future

    async def flush(self) -> None:
        """Wait until no item waits for a commit."""
        while self._worker:
            await asyncio.wait([self._worker])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._commit_next()
        finally:  # items still wait only when the event loop is being closed
            self._worker = None
            _cancel([future for _, future in self._waiting])
            self._waiting.clear()

    async def _commit_next(self) -> None:
        batch = [self._waiting.popleft() for _ in range(self._next_size())]
        futures = [future for _, future in batch]
        try:
            _resolve(futures, await self._commit([item for item, _ in batch]))
        except Exception as error:  # noqa: BLE001 - every caller of the batch gets it, and the next batch follows
            for future in futures:
                if not future.done():
                    future.set_exception(error)
        except BaseException:
            _cancel(futures)
            raise

    def _next_size(self) -> int:
        """Return how many of the waiting items share the next commit."""
        size = min(self._max_items, len(self._waiting))
        if self._weigh is None:
            return size
        weights = accumulate(self._weigh(item) for item, _ in islice(self._waiting, size))
        return max(1, sum(1 for _ in takewhile(lambda weight: weight <= self._max_weight, weights)))


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


def _resolve(futures: list[asyncio.Future[R]], results: list[R]) -> None:
    if len(results) != len(futures):
        raise RuntimeError(f"a commit of {len(futures)} items returned {len(results)} results")
    for future, result in zip(futures, results, strict=True):
        if not future.done():
            future.set_result(result)


def _cancel(futures: list[asyncio.Future[R]]) -> None:
    for future in futures:
        future.cancel()
