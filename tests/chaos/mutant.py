"""The command `boomerang` with a fault planted in it, which kills must bring to light: `python mutant.py FAULT ...`.

Not imported but run.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from typing import Any

from service.callbacks.receiver import CallbackReceiver
from service.cli import main
from service.domain.task import Task
from service.domain.task_update import TaskUpdate

LATER = 0.15
"""Seconds between an answer and what should have come before it."""

receive = CallbackReceiver.receive
under_way: set["asyncio.Task[None]"] = set()


async def receive_later(self: CallbackReceiver, *arguments: Any, **more: Any) -> bool:
    """Let the callback be acknowledged, and record it afterwards."""

    async def later() -> None:
        await asyncio.sleep(LATER)
        await receive(self, *arguments, **more)

    under_way.add(asyncio.create_task(later()))
    return False


def queued_again(task: Task) -> TaskUpdate:
    """Submit again what may have been sent."""
    return TaskUpdate.requeue(task, task.submitted_at or task.created_at)


def acknowledge_first() -> None:
    """Answer callbacks before they are durable."""
    CallbackReceiver.receive = receive_later  # type: ignore[method-assign] # the planted fault


def pay_again() -> None:
    """Take a submission whose worker died for one that never left."""
    TaskUpdate.in_doubt = queued_again  # type: ignore[method-assign] # the planted fault


FAULTS: Mapping[str, Callable[[], None]] = {"acknowledge-first": acknowledge_first, "pay-again": pay_again}

if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    sys.argv = ["boomerang", *sys.argv[2:]]
    main()
