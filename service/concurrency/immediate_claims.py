"""Rows that a transaction leases while it writes them, and that this process starts right after the commit."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

R = TypeVar("R")


class ImmediateClaims(Generic[R]):
    """Tracks transactions that reserve capacity, and starts what they leased once they are committed.

    `R` holds the reservations of one transaction. `release` returns their capacity when the transaction ends, committed
    or not. Nothing may be reserved before `open` and after `close`.
    """

    def __init__(self, *, release: Callable[[R], None]) -> None:
        self._release = release
        self._start: Callable[[R], object] | None = None
        self._closing = False
        self._pending: set[R] = set()
        self._ended = asyncio.Event()

    @property
    def accepting(self) -> bool:
        """Return whether transactions may reserve capacity."""
        return self._start is not None and not self._closing

    def open(self, start: Callable[[R], object]) -> None:
        """Accept reservations; `start` is called with those of each transaction right after its commit."""
        self._start = start

    async def close(self) -> None:
        """Accept no more reservations, and wait for open transactions; those that end later start nothing."""
        self._closing = True
        try:
            while self._pending:
                self._ended.clear()
                await self._ended.wait()
        finally:
            self._start = None

    def await_end(self, reservations: R) -> None:
        """Let `close` wait for the transaction of `reservations`, which has reserved capacity."""
        self._pending.add(reservations)

    @contextmanager
    def transaction(self, reservations: R) -> Iterator[R]:
        """Yield `reservations` for the block, a transaction; leaving it normally starts what it leased."""
        try:
            yield reservations
        finally:
            self._pending.discard(reservations)
            self._ended.set()
            self._release(reservations)
        if self._start:
            self._start(reservations)
