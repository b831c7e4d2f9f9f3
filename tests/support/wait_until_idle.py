"""Wait for the running work of the use cases."""

import asyncio

from service.concurrency.lease_pool import LeasePool
from service.deliveries.dispatcher import Dispatcher
from service.tasks.poller import Poller
from service.tasks.submitter import Submitter


async def ended(part: Submitter | Poller | Dispatcher | LeasePool[str]) -> None:
    """Return once no task of `part` is running."""
    pool = part if isinstance(part, LeasePool) else part._lease_pool
    while tasks := pool.running():
        await asyncio.wait(tasks)
        await asyncio.sleep(0)  # the pool removes ended tasks in its own callbacks
