"""Divides the memory for large bodies between clients, and counts bytes as they arrive."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MAX_CLIENTS = 1024
"""Number of clients whose turn is remembered."""


@dataclass(kw_only=True, eq=False)
class BodyShare:
    """The bytes that one body of `client` holds. While it waits for more, `_granted` is the event of the grant."""

    pool: "SharedBytes"
    client: str
    number: int
    held: int = 0
    first: bool = False
    _wanted: int = 0
    _granted: asyncio.Event | None = None

    async def take(self, size: int, *, seconds: float) -> None:
        """Hold `size` bytes more; raises TimeoutError if they are not free in `seconds`."""
        if self.pool.grant(self, size):
            return
        self._wanted, self._granted = size, asyncio.Event()
        self.pool.waiting.append(self)
        try:
            self.pool.serve()
            async with asyncio.timeout(seconds):
                await self._granted.wait()
        finally:
            if self in self.pool.waiting:
                self.pool.waiting.remove(self)
            self._granted = None

    def try_again(self) -> bool:
        """Take what is waited for if it is free now; return whether it was."""
        if self._granted is None or not self.pool.grant(self, self._wanted):
            return False
        self._granted.set()
        return True


@dataclass(kw_only=True)
class SharedBytes:
    """A pool of `total` bytes for bodies that arrive in parts.

    The rule of dynamic thresholds (as in `domain/fair_share.py`): a client may take bytes only while it then holds no
    more than stays free, so that the next client always finds some. Bodies that each hold a part of the pool could wait
    for each other without end; therefore one of them, `first`, takes what it needs beside the pool. It is the oldest
    body of the client that was first longest ago.
    """

    total: int
    free: int = field(init=False)
    waiting: list[BodyShare] = field(default_factory=list)
    first: BodyShare | None = None
    _held: Counter[str] = field(default_factory=Counter)
    _last_first: dict[str, int] = field(default_factory=dict)
    _count: int = 0

    def __post_init__(self) -> None:
        """Free everything."""
        self.free = self.total

    @contextmanager
    def share(self, client: str) -> Iterator[BodyShare]:
        """Yield the share of a new body of `client`; what it holds is free again after the block."""
        self._count += 1
        share = BodyShare(pool=self, client=client, number=self._count)
        try:
            yield share
        finally:
            self._release(share)
            if self.first is share:
                self.first = None
            self.serve()

    def grant(self, share: BodyShare, size: int) -> bool:
        """Give `size` bytes to a body if it is the first one or they are free for its client; return whether."""
        if share.first:
            return True
        if self._held[share.client] + size > self.free - size or self._is_behind(share):
            return False
        self.free -= size
        self._held[share.client] += size
        share.held += size
        return True

    def serve(self) -> None:
        """Grant what is free now, oldest body first; choose the next first one if bodies still wait."""
        for share in sorted(self.waiting, key=lambda share: share.number):
            if share.try_again():
                self.waiting.remove(share)
        if self.first is None and self.waiting:
            self._choose_first()

    def _choose_first(self) -> None:
        first = min(self.waiting, key=lambda share: (self._last_first.get(share.client, 0), share.number))
        self._count += 1
        self._last_first[first.client] = self._count
        if len(self._last_first) > MAX_CLIENTS:
            del self._last_first[min(self._last_first, key=lambda client: self._last_first[client])]
        self.first, first.first = first, True
        self._release(first)
        self.waiting.remove(first)
        first.try_again()
        self.serve()  # with the bytes that it held in the pool

    def _is_behind(self, share: BodyShare) -> bool:
        """Return whether an older body of the same client waits."""
        return any(each.client == share.client and each.number < share.number for each in self.waiting)

    def _release(self, share: BodyShare) -> None:
        self.free += share.held
        self._held[share.client] -= share.held
        if not self._held[share.client]:
            del self._held[share.client]
        share.held = 0
