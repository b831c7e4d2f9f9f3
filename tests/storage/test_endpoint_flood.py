"""A flood to the endpoint of one client beside another client's."""

import asyncio
import sys
from dataclasses import replace

import pytest

from service.storage import Store
from tests.support.endpoint_harness import WEBHOOK_HANDLER, Harness
from tests.support.wait_until_idle import ended

FLOOD, FEW = 300, 12
SLOW, FAST = "https://slow.example/hook", "https://fast.example/hook"


@pytest.mark.parametrize("flooded", [False, True])
async def test_flood_to_one_endpoint_does_not_delay_another_clients(store: Store, flooded: bool) -> None:
    """While every request to the flooded endpoint hangs, each event of the other client is sent after its commit."""
    harness = Harness(store=store, handler=replace(WEBHOOK_HANDLER, timeout=100))
    gate = harness.receivers.gates["slow.example"] = asyncio.Event()
    await harness.endpoints.create("anna", url=SLOW)
    await harness.endpoints.create("berta", url=FAST)
    harness.dispatcher.open()
    if flooded:
        await harness.submit(*await harness.tasks(FLOOD, "anna"))
        await harness.dispatcher.run_once()
    loop, delays = asyncio.get_running_loop(), list[float]()
    for task in await harness.tasks(FEW, "berta"):
        began = loop.time()
        harness.receivers.arrived.clear()
        await harness.submit(task)
        committed = loop.time() - began
        async with asyncio.timeout(30):
            await harness.receivers.arrived.wait()
        delays.append(loop.time() - began - committed)
    assert {request.url.host for request in harness.receivers.requests} == {"fast.example"}
    waiting = len(await harness.deliveries("pending", client="anna"))
    median, slowest = sorted(delays)[FEW // 2] * 1000, max(delays) * 1000
    about = f"with {waiting} or more that wait" if flooded else "without a flood"
    sys.stdout.write(f"{about}: {median:.1f} ms from commit to request at the median, {slowest:.1f} ms at most\n")
    gate.set()
    async with asyncio.timeout(60):
        await ended(harness.dispatcher)
    await harness.dispatcher.drain(1)
