"""One limit for all requests to the provider: rate, concurrency, and a common pause after the provider throttles.

Callers wait in order of arrival; a cancelled caller frees its slot. Time is the event loop's, so that a loop with a
virtual clock limits in virtual time.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

from service.concurrency.fair_semaphore import FairSemaphore
from service.domain.errors import Conflict, Paused, Refused, Throttled, UnknownTask, UpstreamError
from service.domain.ports.provider import PayloadMatch, Provider, ProviderRequest
from service.domain.provider_key import KeyAnswers
from service.domain.task import Fact, UpstreamId
from service.providers.pagination import Page, Paged, search

MIB = 1024 * 1024
LARGE_REQUEST_BYTES = 48 * MIB
"""Limit on the bytes of submissions in memory: two submissions of the maximum size."""

BURST_SECONDS = 0.5
MAX_PAUSE = 60.0
"""Maximum pause in seconds after a throttle that names no pause."""

MAX_PAUSE_WAIT = 5.0
"""Maximum remaining pause, in seconds, that a request waits for; during a longer one it fails with Paused."""

MAX_SPARE_GAP = 2.0
"""Seconds between two requests up to which a rate has something to spare for requests of little importance."""

MAX_DOUBLINGS = 6  # 2 ** 6 s exceed MAX_PAUSE
TIMER_TOLERANCE = 1e-6
"""Seconds by which a timer may fire too early."""

HEALTHY_ERRORS = (Refused, UnknownTask, Conflict)
"""Errors that are complete responses of a healthy provider."""


class RateLimitedClient:
    """A Provider behind the limits; during a long pause every request raises Paused and none is sent.

    `rate` is in requests per second (with bursts of half a second's requests, at least one), `concurrency` in
    simultaneous requests, `large_bytes` in bytes of submissions in memory. `requests` counts by kind (create, fetch,
    cancel, find) and outcome (`ok`, the error's `outcome`, or `cancelled`); every page of a list is a request.
    `key_answers` is what the answers say about the key.
    """

    def __init__(
        self, provider: Provider, *, rate: float, concurrency: int, large_bytes: int = LARGE_REQUEST_BYTES
    ) -> None:
        self.name = provider.name
        self.requests: Counter[tuple[str, str]] = Counter()
        self.key_answers = KeyAnswers()
        self._provider = provider
        self._slots = ConcurrencyLimit(concurrency)
        self._limiter = RateLimiter(rate)
        self._large_bytes = FairSemaphore(large_bytes)

    @property
    def lists(self) -> bool:
        """Whether the provider has a list."""
        return self._provider.lists

    @property
    def pause(self) -> timedelta:
        """Remaining time during which no request is sent, because the provider throttles."""
        return timedelta(seconds=self._limiter.pause())

    def ready(self) -> int:
        """Return how many requests can start now without waiting."""
        return min(self._slots.free, self._limiter.ready())

    def spare(self) -> int:
        """Return how many requests of little importance may start now.

        They leave half of the burst and of the concurrent requests to others, which so wait for one gap of the rate at
        most. A rate whose gap is longer than MAX_SPARE_GAP has nothing to spare.
        """
        return max(0, min(self._slots.free - self._slots.total // 2, self._limiter.spare()))

    def hold_bytes(self, size: int) -> AbstractAsyncContextManager[None]:
        """Wait until `size` more bytes are free, and reserve them for the block. Enter it before loading inputs.

        A size over the limit waits until nothing else is reserved.
        """
        return self._large_bytes.hold(size)

    async def create(self, request: ProviderRequest, *, sent: Callable[[], None] | None = None) -> Fact:
        """Submit within the limits; calls `sent` after the wait, before the request. See `Provider.create`."""
        async with self._limited("create"):
            if sent:
                sent()
            return await self._provider.create(request)

    async def fetch(self, upstream_id: UpstreamId) -> Fact:
        """Poll within the limits; see `Provider.fetch`."""
        async with self._limited("fetch"):
            return await self._provider.fetch(upstream_id)

    async def cancel(self, upstream_id: UpstreamId) -> None:
        """Cancel within the limits; see `Provider.cancel`."""
        async with self._limited("cancel"):
            await self._provider.cancel(upstream_id)

    async def find(self, matches: PayloadMatch, *, since: datetime, until: datetime) -> Fact | None:
        """Search the list within the limits, each page as one request; see `Provider.find`."""
        if isinstance(self._provider, Paged):
            return await search(partial(self._find_page, self._provider), matches, since=since, until=until)
        async with self._limited("find"):
            return await self._provider.find(matches, since=since, until=until)

    async def _find_page(
        self, paged: Paged, matches: PayloadMatch, *, since: datetime, until: datetime, cursor: Mapping[str, str]
    ) -> Page:
        async with self._limited("find"):
            return await paged.find_page(matches, since=since, until=until, cursor=cursor)

    @asynccontextmanager
    async def _limited(self, kind: str) -> AsyncIterator[None]:
        """Wait for a slot and for the rate, then count the request and adapt the pause to its outcome."""
        async with self._slots:
            throttles = await self._limiter.wait()
            outcome = "cancelled"
            try:
                yield
            except Throttled as error:
                outcome = error.outcome
                error.retry_after = self._limiter.back_off(error.retry_after, throttles=throttles)
                raise
            except (UpstreamError, Conflict) as error:
                outcome = error.outcome
                if isinstance(error, Refused) and error.of_key:
                    self.key_answers.reject()
                if isinstance(error, HEALTHY_ERRORS):
                    self._limiter.reset(throttles=throttles)
                raise
            else:
                outcome = "ok"
                self.key_answers.accept()
                self._limiter.reset(throttles=throttles)
            finally:
                self.requests[kind, outcome] += 1


class ConcurrencyLimit(asyncio.Semaphore):
    """Semaphore that reports its free slots, and how many there are in `total`."""

    def __init__(self, total: int) -> None:
        super().__init__(total)
        self.total = total

    @property
    def free(self) -> int:
        """How many callers would not have to wait."""
        return 0 if self.locked() else self._value


class RateLimiter:
    """Generic cell rate algorithm with a common pause. Callers proceed in order of arrival.

    The state is the time at which the bucket is full again.
    """

    def __init__(self, rate: float) -> None:
        self._gap = 1.0 / rate
        self._burst = max(0.0, BURST_SECONDS - self._gap)
        self._full_at = 0.0
        self._resume_at = 0.0
        self._doublings = 0
        self._throttles = 0
        self._queue = asyncio.Lock()

    def pause(self) -> float:
        """Return the remaining seconds of the common pause."""
        return max(0.0, self._resume_at - asyncio.get_running_loop().time())

    def ready(self) -> int:
        """Return how many callers can proceed now, if no other caller waits."""
        now = asyncio.get_running_loop().time()
        if self._resume_at - now > TIMER_TOLERANCE or self._queue.locked():
            return 0
        spare = self._burst - max(0.0, self._full_at - now)
        return int((spare + TIMER_TOLERANCE) / self._gap) + 1 if spare > -TIMER_TOLERANCE else 0

    def spare(self) -> int:
        """Return how many callers can proceed now without taking the second half of the burst."""
        if self._gap > MAX_SPARE_GAP:
            return 0
        return self.ready() - int((self._burst + TIMER_TOLERANCE) / self._gap + 1) // 2

    async def wait(self) -> int:
        """Wait for the rate and the pause; return the number of throttles so far.

        Raises Paused if the remaining pause exceeds MAX_PAUSE_WAIT.
        """
        loop = asyncio.get_running_loop()
        async with self._queue:
            while (delay := max(self._full_at - self._burst, self._resume_at) - loop.time()) > TIMER_TOLERANCE:
                if self.pause() > MAX_PAUSE_WAIT:
                    raise Paused("the provider asked to pause", retry_after=timedelta(seconds=self.pause()))
                await asyncio.sleep(delay)
            self._full_at = max(self._full_at, loop.time()) + self._gap
        return self._throttles

    def back_off(self, requested: timedelta | None, *, throttles: int) -> timedelta:
        """Pause all callers for `requested`, or without one (or with zero) for 1, 2, 4 … 60 s; return what remains.

        `throttles` is the result of `wait`. A request that started before the last throttle brings no new information
        and does not lengthen the next pause.
        """
        pause = requested.total_seconds() if requested else min(MAX_PAUSE, 2.0 ** min(self._doublings, MAX_DOUBLINGS))
        if throttles == self._throttles:
            self._throttles += 1
            self._doublings = min(self._doublings + 1, MAX_DOUBLINGS)
        elif not requested:
            pause = 0.0
        self._resume_at = max(self._resume_at, asyncio.get_running_loop().time() + pause)
        return timedelta(seconds=self.pause())

    def reset(self, *, throttles: int) -> None:
        """Return to the shortest pause, unless the request started before the last throttle."""
        if throttles == self._throttles:
            self._doublings = 0
