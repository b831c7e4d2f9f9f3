"""One budget for every request to the provider: rate, concurrency, and a common pause after it asked for fewer.

Callers wait in the order in which they came; whoever is cancelled frees its place. Time is the event loop's own, so
that a loop with a virtual clock paces virtually.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

from service.concurrency.byte_semaphore import ByteSemaphore
from service.domain.errors import Conflict, Paused, Refused, Throttled, UnknownTask, UpstreamError
from service.domain.ports.provider import Provider, ProviderRequest
from service.domain.task import Fact, UpstreamId
from service.providers.pagination import Page, Paged, search

MIB = 1024 * 1024
LARGE_REQUEST_BYTES = 48 * MIB
"""Bytes of large submissions in hand at once: two of the largest."""

BURST_SECONDS = 0.5
MAX_PAUSE = 60.0
"""Seconds between requests at most, where the provider asks for fewer and names no pause."""

MAX_PAUSE_WAIT = 5.0
"""Seconds of a pause that a request waits for its end; during a longer one nothing is held up for a request's sake."""

MAX_DOUBLINGS = 6  # doublings: 2 ** 6 s are past the longest pause
TIMER_TOLERANCE = 1e-6
"""Seconds that are none: a timer may ring that much too early."""

HEALTHY_ERRORS = (Refused, UnknownTask, Conflict)
"""Errors that are whole answers of a provider that is well."""


class RateLimitedClient:
    """An Upstream that keeps to a budget; during a long pause every request raises Paused, and none is sent.

    `rate` is in requests a second (with bursts of half a second's worth, at least one), `concurrency` in requests at
    once, `large_bytes` in bytes of large submissions in hand. `requests` counts by kind (create, fetch, cancel, find)
    and outcome (`ok`, the error's `outcome`, or `cancelled`); every page of a list is a request.
    """

    def __init__(
        self, provider: Provider, *, rate: float, concurrency: int, large_bytes: int = LARGE_REQUEST_BYTES
    ) -> None:
        self.name = provider.name
        self.requests: Counter[tuple[str, str]] = Counter()
        self._provider = provider
        self._slots = ConcurrencyLimit(concurrency)
        self._limiter = RateLimiter(rate)
        self._large_bytes = ByteSemaphore(large_bytes)

    @property
    def lists(self) -> bool:
        """Whether the provider has a list."""
        return self._provider.lists

    @property
    def pause(self) -> timedelta:
        """How long no request will be sent from now on, because the provider asked for fewer."""
        return timedelta(seconds=self._limiter.pause())

    def ready(self) -> int:
        """Return how many requests may go at this moment without waiting."""
        return min(self._slots.free, self._limiter.ready())

    def hold_bytes(self, size: int) -> AbstractAsyncContextManager[None]:
        """Wait until `size` more bytes may be in hand, and hold them for the block: take it before loading inputs.

        One that alone is larger than the limit is let through when nothing else is in hand.
        """
        return self._large_bytes.hold(size)

    async def create(self, request: ProviderRequest, *, sent: Callable[[], None] | None = None) -> Fact:
        """Submit within the budget; `sent` is called once the wait is over. See `Provider.create`."""
        async with self._limited("create"):
            if sent:
                sent()
            return await self._provider.create(request)

    async def fetch(self, upstream_id: UpstreamId) -> Fact:
        """Ask within the budget; see `Provider.fetch`."""
        async with self._limited("fetch"):
            return await self._provider.fetch(upstream_id)

    async def cancel(self, upstream_id: UpstreamId) -> None:
        """Cancel within the budget; see `Provider.cancel`."""
        async with self._limited("cancel"):
            await self._provider.cancel(upstream_id)

    async def find(self, correlation: str, *, since: datetime, until: datetime) -> Fact | None:
        """Look through the list within the budget, each page a request of its own; see `Provider.find`."""
        if isinstance(self._provider, Paged):
            return await search(partial(self._find_page, self._provider), correlation, since=since, until=until)
        async with self._limited("find"):
            return await self._provider.find(correlation, since=since, until=until)

    async def _find_page(
        self, paged: Paged, correlation: str, *, since: datetime, until: datetime, cursor: Mapping[str, str]
    ) -> Page:
        async with self._limited("find"):
            return await paged.find_page(correlation, since=since, until=until, cursor=cursor)

    @asynccontextmanager
    async def _limited(self, kind: str) -> AsyncIterator[None]:
        async with self._slots:
            seen = await self._limiter.wait()
            outcome = "cancelled"
            try:
                yield
            except Throttled as error:
                outcome = error.outcome
                error.retry_after = self._limiter.back_off(error.retry_after, seen=seen)
                raise
            except (UpstreamError, Conflict) as error:
                outcome = error.outcome
                if isinstance(error, HEALTHY_ERRORS):
                    self._limiter.reset(seen=seen)
                raise
            else:
                outcome = "ok"
                self._limiter.reset(seen=seen)
            finally:
                self.requests[kind, outcome] += 1


class ConcurrencyLimit(asyncio.Semaphore):
    """A semaphore that tells how many places are free."""

    @property
    def free(self) -> int:
        """How many callers would not have to wait."""
        return 0 if self.locked() else self._value


class RateLimiter:
    """When the next request may go: at a rate, in the order of asking, and not during a pause.

    The rate is kept as the time at which the bucket would be full again (the generic cell rate algorithm).
    """

    def __init__(self, rate: float) -> None:
        self._gap = 1.0 / rate
        self._slack = max(0.0, BURST_SECONDS - self._gap)
        self._full_at = 0.0
        self._resume_at = 0.0
        self._step = 0
        self._throttles = 0
        self._queue = asyncio.Lock()

    def pause(self) -> float:
        """Return the seconds that are left of the common pause."""
        return max(0.0, self._resume_at - asyncio.get_running_loop().time())

    def ready(self) -> int:
        """Return how many callers may go now, when nobody else is waiting."""
        if self.pause() > TIMER_TOLERANCE or self._queue.locked():
            return 0
        spare = self._slack - max(0.0, self._full_at - asyncio.get_running_loop().time())
        return int((spare + TIMER_TOLERANCE) / self._gap) + 1 if spare > -TIMER_TOLERANCE else 0

    async def wait(self) -> int:
        """Wait for this caller's turn; return how many throttles had been seen when it came.

        Raises Paused rather than wait for the end of a pause that is longer than PATIENCE.
        """
        loop = asyncio.get_running_loop()
        async with self._queue:
            while (left := max(self._full_at - self._slack, self._resume_at) - loop.time()) > TIMER_TOLERANCE:
                if self.pause() > MAX_PAUSE_WAIT:
                    raise Paused("the upstream asks for a pause", retry_after=timedelta(seconds=self.pause()))
                await asyncio.sleep(left)
            self._full_at = max(self._full_at, loop.time()) + self._gap
        return self._throttles

    def back_off(self, asked: timedelta | None, *, seen: int) -> timedelta:
        """Let nobody through for `asked`, else (as for an `asked` that is no time) for 1, 2, 4 … 60 s.

        Return the pause that is now left. Requests that left before the last throttle was `seen` tell nothing new: they
        do not lengthen the next pause.
        """
        pause = asked.total_seconds() if asked else min(MAX_PAUSE, 2.0 ** min(self._step, MAX_DOUBLINGS))
        if seen == self._throttles:
            self._throttles += 1
            self._step = min(self._step + 1, MAX_DOUBLINGS)
        elif not asked:
            pause = 0.0
        self._resume_at = max(self._resume_at, asyncio.get_running_loop().time() + pause)
        return timedelta(seconds=self.pause())

    def reset(self, *, seen: int) -> None:
        """Begin again with the shortest pause, unless the request left before the last throttle."""
        if seen == self._throttles:
            self._step = 0
