"""Waiting for what the use-cases have in hand."""

import asyncio

from service.concurrency.lease_pool import Hands
from service.deliveries.dispatcher import Dispatch
from service.tasks.poller import Reconcile
from service.tasks.submitter import Submit


async def ended(part: Submit | Reconcile | Dispatch | Hands[str]) -> None:
    """Return once nothing is in hand."""
    while tasks := _in_hand(part):
        await asyncio.wait(tasks)
        await asyncio.sleep(0)  # those that end just now are still to be taken off the list


def _in_hand(part: Submit | Reconcile | Dispatch | Hands[str]) -> list[asyncio.Task[None]]:
    if isinstance(part, Dispatch):
        return [hand.task for hand in part._hands if hand.task]
    return list(part._running if isinstance(part, Hands) else part._hands._running)
