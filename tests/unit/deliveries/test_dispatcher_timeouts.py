"""Running deliveries in virtual time: who waits for how long."""

import asyncio
from collections.abc import MutableMapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

import structlog
from structlog.testing import capture_logs

from service.deliveries import loop_monitor as lag
from service.deliveries.handler_api import Event, Tools
from tests.simulation.loop import SimLoop, own_loop
from tests.support.delivery_builders import NOW, MovedClock, Stage, claim_for, handler, stage
from tests.support.sample_handlers import outcomes_logged


class LoopClock(MovedClock):
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


def _put(made: Stage, client: str, count: int, *, seconds: float) -> None:
    event, target = replace(claim_for("hook").event, client=client), {"url": f"https://{client}.example"}
    for _ in range(count):
        made.queue.put("hook", event=event, target=target, payload=str(seconds))


def test_a_client_with_slow_receivers_keeps_no_other_waiting() -> None:
    """While one client's receivers take all the time there is, another's deliveries are handed over within seconds."""

    async def story() -> None:
        hook = handler("hook", _take_its_time, concurrency=16, timeout=600)
        made = stage(hook, clock=LoopClock())
        _put(made, "slow", 480, seconds=300)
        _put(made, "quick", 30, seconds=0.5)
        for _ in range(10):
            await made.dispatch.run_once()
            await asyncio.sleep(1)
        quick = [one for one in made.queue.rows.values() if one.claim.event.client == "quick"]
        assert {one.status for one in quick} == {"delivered"}
        assert made.dispatch.in_flight == 8
        await made.dispatch.drain(0)

    with own_loop() as loop:
        loop.run_until_complete(story())


def test_a_handler_that_blocks_the_loop_is_named() -> None:
    """Everything stands still with it: the log says for how long, and whose deliveries were in hand."""

    async def story(loop: SimLoop, lines: list[MutableMapping[str, Any]]) -> None:
        async def block(event: Event, tools: Tools) -> None:
            assert event.id
            assert tools.message_id
            loop._jumping.seconds += 30.0

        made = stage(handler("blocking", block), handler("slow", _take_14_seconds), clock=LoopClock())
        for name in ("slow", "blocking"):
            made.queue.put(name)
        await asyncio.gather(*await made.dispatch.start_due())
        await asyncio.sleep(60)
        [line] = [line for line in lines if "stood still" in line["event"]]
        assert (line["seconds"], line["handlers"], line["log_level"]) == (29.5, ["blocking", "slow"], "warning")
        await made.dispatch.drain(0)

    with capture_logs() as lines, patch.object(lag, "log", structlog.get_logger()), own_loop() as loop:
        loop.run_until_complete(story(loop, lines))


def test_what_ended_with_the_standstill_is_named_too() -> None:
    """Whoever was in hand when the loop was last seen to turn may be the one that held it."""
    in_hand = {"before"}

    async def story(loop: SimLoop) -> None:
        with lag.LoopMonitor(lambda: in_hand):
            in_hand.clear()
            in_hand.add("after")
            loop._jumping.seconds += 30.0
            await asyncio.sleep(1)

    with capture_logs() as lines, patch.object(lag, "log", structlog.get_logger()), own_loop() as loop:
        loop.run_until_complete(story(loop))
    assert [line["handlers"] for line in lines] == [["after", "before"]]


def test_a_result_that_is_not_stored_before_the_end_is_no_fault_of_its_handler() -> None:
    """The handler has ended: what holds the drain up is the database."""

    async def story() -> None:
        made = stage(handler("slow", _take_14_seconds), clock=LoopClock())
        made.queue.put("slow")
        await made.dispatch.run_once()
        with patch.object(made.queue, "finish", lambda _: asyncio.sleep(600)):
            await made.dispatch.drain(20)

    with outcomes_logged() as lines, own_loop() as loop:
        loop.run_until_complete(story())
    told = "delivery unfinished at shutdown, lease will expire"
    assert [(line["event"], line["log_level"]) for line in lines if line["event"] != "delivery"] == [(told, "warning")]
