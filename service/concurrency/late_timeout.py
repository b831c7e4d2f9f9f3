"""A time limit of a process that may be stopped for a while: what arrived meanwhile is read before the time is up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LATE = 1.0
"""Seconds after which a timer is late: the process, or the machine, was stopped or very busy."""

GRACE = 1.0
"""Seconds that work has after a late timer."""


@asynccontextmanager
async def timeout_after(seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError if the block takes longer than `seconds`, and GRACE more after a stop of the process.

    `asyncio.timeout` would cancel the block in the moment in which the process continues, although the answer that the
    block waits for may be there, unread.
    """
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []
    async with asyncio.timeout(None) as limit:

        def expire() -> None:
            if loop.time() - timers[-1].when() > LATE:
                timers.append(loop.call_later(GRACE, expire))
            else:
                limit.reschedule(loop.time())

        timers.append(loop.call_later(seconds, expire))
        try:
            yield
        finally:
            timers[-1].cancel()
