"""Grouped commits: while one commit is running, newcomers gather for the next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate, islice, takewhile
from typing import Generic, TypeVar

from service.domain.errors import StoreUnavailable

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Groups what concurrent callers add into few calls of `commit`, one at a time, in the order of arrival.

    `commit` takes up to `most` items and returns one result for each, in the same order. What was added is committed
    even when its caller has stopped waiting. With `weigh`, what is in one commit weighs `heaviest` at most, unless it
    is a single item.
    """

    def __init__(
        self,
        commit: Callable[[list[T]], Awaitable[list[R]]],
        *,
        most: int,
        weigh: Callable[[T], int] | None = None,
        heaviest: int = 0,
    ) -> None:
        self._commit = commit
        self._most = most
        self._weigh = weigh
        self._heaviest = heaviest
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def add(self, item: T) -> R:
        """Return the result of `item` once its batch is committed; raises what the commit of its batch raised."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._run(), name="batcher")
        return await future

    async def flush(self) -> None:
        """Return once nothing waits for a commit."""
        while self._worker:
            await asyncio.wait([self._worker])

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._commit_next()
        finally:
            self._worker = None
            self._abandon()

    async def _commit_next(self) -> None:
        batch = [self._waiting.popleft() for _ in range(self._next_size())]
        futures = [future for _, future in batch]
        try:
            _resolve(futures, await self._commit([item for item, _ in batch]))
        except Exception as error:  # noqa: BLE001 - every waiter of the batch gets it, and the next batch has its chance
            _refuse(futures, error)
        except BaseException:
            _cancel(futures)
            raise

    def _next_size(self) -> int:
        """Return how many of those who wait share the next commit."""
        size = min(self._most, len(self._waiting))
        if self._weigh is None:
            return size
        weights = accumulate(self._weigh(item) for item, _ in islice(self._waiting, size))
        return max(1, sum(1 for _ in takewhile(lambda weight: weight <= self._heaviest, weights)))

    def _abandon(self) -> None:
        """Let go of those who still wait when the event loop is being torn down."""
        _cancel([future for _, future in self._waiting])
        self._waiting.clear()


async def commit_or_bisect(
    commit: Callable[[list[T]], Awaitable[Sequence[R | Exception]]], items: list[T]
) -> list[R | Exception]:
    """Commit `items` together; halve them while one that cannot be stored would take others along.

    Returns what came of each, in order: its result, or the error that is its own. While the store is unavailable every
    item has that error, and none is tried again.
    """
    try:
        return list(await commit(items))
    except Exception as error:  # noqa: BLE001 - each waiter gets its own outcome
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


def _refuse(futures: list[asyncio.Future[R]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)


def _cancel(futures: list[asyncio.Future[R]]) -> None:
    for future in futures:
        future.cancel()
