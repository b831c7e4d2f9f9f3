"""The command `boomerang` with a fault, which kills must reveal: `python mutant.py FAULT ...`.

The script is run, not imported.
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
"""Seconds between the response and the commit that should precede it."""

receive = CallbackReceiver.receive
running: set["asyncio.Task[None]"] = set()


async def receive_later(self: CallbackReceiver, *arguments: Any, **more: Any) -> bool:
    """Acknowledge the callback, and record it afterwards."""

    async def later() -> None:
        await asyncio.sleep(LATER)
        await receive(self, *arguments, **more)

    running.add(asyncio.create_task(later()))
    return False


def requeued(task: Task, _note: str | None = None) -> TaskUpdate:
    """Submit again what may have been sent."""
    return TaskUpdate.requeue(task, task.submitted_at or task.created_at)


def acknowledge_first() -> None:
    """Answer callbacks before they are durable."""
    CallbackReceiver.receive = receive_later  # type: ignore[method-assign] # the injected fault


def pay_again() -> None:
    """Treat a submission whose worker crashed as not sent."""
    TaskUpdate.in_doubt = requeued  # type: ignore[method-assign] # the injected fault


FAULTS: Mapping[str, Callable[[], None]] = {"acknowledge-first": acknowledge_first, "pay-again": pay_again}

if __name__ == "__main__":
    FAULTS[sys.argv[1]]()
    sys.argv = ["boomerang", *sys.argv[2:]]
    main()
