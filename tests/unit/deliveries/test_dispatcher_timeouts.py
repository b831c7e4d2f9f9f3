"""Running deliveries in virtual time: who waits for how long."""

import asyncio
from collections.abc import MutableMapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

import structlog
from structlog.testing import capture_logs

from service.deliveries import loop_monitor
from service.deliveries.handler_api import Event, Tools
from tests.simulation.loop import SimLoop, own_loop
from tests.support.delivery_builders import NOW, DispatcherSetup, ManualClock, claim_for, dispatcher_setup, handler
from tests.support.sample_handlers import captured_logs


class LoopClock(ManualClock):
    """A clock that goes with the virtual time of the running loop."""

    def now(self) -> datetime:
        """Return the loop's time."""
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())


async def _take_14_seconds(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id
    await asyncio.sleep(14)


async def _take_its_time(event: Event, tools: Tools) -> None:
    assert tools.message_id
    await asyncio.sleep(float(event.payload or ""))


def _put(setup: DispatcherSetup, client: str, count: int, *, seconds: float) -> None:
    event, target = replace(claim_for("hook").event, client=client), {"url": f"https://{client}.example"}
    for _ in range(count):
        setup.queue.put("hook", event=event, target=target, payload=str(seconds))


def test_client_with_slow_receivers_delays_no_other() -> None:
    """While one client's receivers take all their time, another's deliveries are handed over within seconds."""

    async def scenario() -> None:
        hook = handler("hook", _take_its_time, concurrency=16, timeout=600)
        setup = dispatcher_setup(hook, clock=LoopClock())
        _put(setup, "slow", 480, seconds=300)
        _put(setup, "quick", 30, seconds=0.5)
        for _ in range(10):
            await setup.dispatcher.run_once()
            await asyncio.sleep(1)
        quick = [one for one in setup.queue.rows.values() if one.claim.event.client == "quick"]
        assert {one.status for one in quick} == {"delivered"}
        assert setup.dispatcher.in_flight == 8
        await setup.dispatcher.drain(0)

    with own_loop() as loop:
        loop.run_until_complete(scenario())


def test_handler_that_blocks_the_loop_is_logged() -> None:
    """The log contains how long the event loop was blocked, and the handlers that ran."""

    async def scenario(loop: SimLoop, lines: list[MutableMapping[str, Any]]) -> None:
        async def block(event: Event, tools: Tools) -> None:
            assert event.id
            assert tools.message_id
            loop._virtual_selector.seconds += 30.0

        setup = dispatcher_setup(handler("blocking", block), handler("slow", _take_14_seconds), clock=LoopClock())
        for name in ("slow", "blocking"):
            setup.queue.put(name)
        await asyncio.gather(*await setup.dispatcher.start_due())
        await asyncio.sleep(60)
        [line] = [line for line in lines if line["event"] == "event loop blocked"]
        assert (line["seconds"], line["handlers"], line["log_level"]) == (29.5, ["blocking", "slow"], "warning")
        await setup.dispatcher.drain(0)

    with capture_logs() as lines, patch.object(loop_monitor, "log", structlog.get_logger()), own_loop() as loop:
        loop.run_until_complete(scenario(loop, lines))


def test_handler_that_ended_with_the_block_is_logged_too() -> None:
    """A handler that ran at the last check may be the one that blocked the loop."""
    running = {"before"}

    async def scenario(loop: SimLoop) -> None:
        with loop_monitor.LoopMonitor(lambda: running):
            running.clear()
            running.add("after")
            loop._virtual_selector.seconds += 30.0
            await asyncio.sleep(1)

    with capture_logs() as lines, patch.object(loop_monitor, "log", structlog.get_logger()), own_loop() as loop:
        loop.run_until_complete(scenario(loop))
    assert [line["handlers"] for line in lines] == [["after", "before"]]


def test_result_that_is_not_stored_at_shutdown_is_not_its_handlers_fault() -> None:
    """The handler has ended: the database delays the drain."""

    async def scenario() -> None:
        setup = dispatcher_setup(handler("slow", _take_14_seconds), clock=LoopClock())
        setup.queue.put("slow")
        await setup.dispatcher.run_once()
        with patch.object(setup.queue, "finish", lambda _: asyncio.sleep(600)):
            await setup.dispatcher.drain(20)

    with captured_logs() as lines, own_loop() as loop:
        loop.run_until_complete(scenario())
    expected = "delivery unfinished at shutdown, lease will expire"
    assert [(line["event"], line["log_level"]) for line in lines if line["event"] != "delivery"] == [
        (expected, "warning")
    ]
