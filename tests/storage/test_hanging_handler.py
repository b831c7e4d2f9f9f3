"""A handler that never returns beside a healthy one."""

import asyncio
import sys

import pytest

from service.deliveries.dispatcher import Dispatcher
from service.deliveries.handler_api import Event, Tools
from service.deliveries.handler_slots import HandlerSlots
from service.domain.task import TaskId
from service.storage import Store
from tests.storage.builders import LEASE, a_delivery, an_event
from tests.support.delivery_builders import NOW, ManualClock, handler, tools, view

HANGING, FEW = 100, 12
AT = NOW.replace(year=2027)


async def _add(store: Store, name: str, number: int) -> None:
    task_id = TaskId(f"{name}{number}")
    row = an_event(f"e-{task_id}", task_id=task_id, data=view().to_json())
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([row], [a_delivery(row, name, due_at=AT)])


@pytest.mark.parametrize("hangs", [False, True])
async def test_handler_that_never_returns_does_not_delay_a_healthy_one(store: Store, hangs: bool) -> None:
    """While all slots of one handler hang and many of its deliveries wait, each of the other's is run at once."""
    never, arrived, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()

    async def hang(event: Event, tools: Tools) -> None:
        assert (event.id, tools.attempt) is not None
        await never.wait()

    async def healthy(event: Event, tools: Tools) -> None:
        assert (event.id, tools.attempt) is not None
        arrived.set()

    handlers = [handler("hanging", hang, concurrency=8, timeout=600), handler("healthy", healthy)]
    dispatcher = Dispatcher(
        queue=store.deliveries,
        slots=HandlerSlots(handlers, lease=LEASE, notify=lambda: None),
        tools=lambda _claim, _handler: tools(),
        clock=ManualClock(AT),
        schedule=(LEASE,),
        jitter=lambda: 0.0,
    )
    if hangs:
        for number in range(HANGING):
            await _add(store, "hanging", number)
        assert await dispatcher.run_once() == 8
    delays: list[float] = []
    for number in range(FEW):
        await _add(store, "healthy", number)
        arrived.clear()
        began = loop.time()
        await dispatcher.run_once()
        async with asyncio.timeout(30):
            await arrived.wait()
        delays.append(loop.time() - began)
    about = "beside a handler that hangs" if hangs else "alone"
    median, slowest = sorted(delays)[FEW // 2] * 1000, max(delays) * 1000
    sys.stdout.write(f"{about}: {median:.1f} ms from the claim to the run at the median, {slowest:.1f} ms at most\n")
    never.set()
    await dispatcher.drain(5)
