"""Waiting for what the use-cases have in hand."""

import asyncio

from service.concurrency.lease_pool import LeasePool
from service.deliveries.dispatcher import Dispatcher
from service.tasks.poller import Poller
from service.tasks.submitter import Submitter


async def ended(part: Submitter | Poller | Dispatcher | LeasePool[str]) -> None:
    """Return once nothing is in hand."""
    pool = part if isinstance(part, LeasePool) else part._lease_pool
    while tasks := pool.running():
        await asyncio.wait(tasks)
        await asyncio.sleep(0)  # those that end just now are still to be taken off the list
