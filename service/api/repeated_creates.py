"""Recognizes the repeated create of a client that tries again by itself, without an idempotency key.

The SDK of OpenAI repeats a create whose connection broke, and announces that in a header. If the first request was
stored, the second one gets its task, and if the second one is stored first, the first one does: nothing is paid twice,
although they may be in different processes.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from secrets import token_hex
from weakref import WeakValueDictionary

from starlette.requests import Request

from service.domain.ports.tasks import IdempotencyKey, RepeatedRequest, TaskQueries
from service.domain.task import Task

RETRY_COUNT, READ_TIMEOUT = "x-stainless-retry-count", "x-stainless-read-timeout"
DEFAULT_READ_TIMEOUT, MAX_READ_TIMEOUT = 600.0, 3600.0
SLACK = timedelta(seconds=60)
"""Time for the SDK's own pauses, and for clocks of several processes."""

KEY_PREFIX = "\x1fvideos/"
"""Prefix of the keys of such creates: no HTTP header can carry it, so that no client has such a key."""

MAX_DIGITS = 9


@dataclass(slots=True)
class RepeatedCreates:
    """Finds the task of an equal create; equal creates of one client run one after the other in a process."""

    queries: TaskQueries
    _locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = field(default_factory=WeakValueDictionary)

    @asynccontextmanager
    async def turn(self, client: str, digest: str) -> AsyncIterator[None]:
        """Wait for an equal create that is in progress: its task is found by the next one."""
        lock = self._locks.setdefault((client, digest), asyncio.Lock())
        async with lock:
            yield

    async def earlier(self, client: str, key: IdempotencyKey) -> Task | None:
        """Return the stored task of the request that one with this key repeats; None for a first one."""
        wanted = key.repeated
        if wanted is None or not wanted.repeats:
            return None
        return await self.queries.newest_with_key(client, wanted.prefix, wanted.since)


def create_key(request: Request, digest: str, arrived_at: datetime) -> IdempotencyKey:
    """Return the key of a create without one, under which its task is found by an equal one that repeats it."""
    repeats = _number(request, RETRY_COUNT, 0.0) >= 1
    timeout = min(_number(request, READ_TIMEOUT, DEFAULT_READ_TIMEOUT), MAX_READ_TIMEOUT)
    since = arrived_at - timedelta(seconds=timeout) - SLACK if repeats else arrived_at
    wanted = RepeatedRequest(prefix=_prefix(digest), since=since, repeats=repeats)
    begin = wanted.repeat_prefix if repeats else wanted.prefix
    return IdempotencyKey(key=f"{begin}{token_hex(8)}", digest=digest, repeated=wanted)


def _prefix(digest: str) -> str:
    return f"{KEY_PREFIX}{digest}/"


def _number(request: Request, name: str, default: float) -> float:
    text = request.headers.get(name, "")
    whole = text.partition(".")[0]
    return float(whole) if whole.isascii() and whole.isdecimal() and len(whole) <= MAX_DIGITS else default
