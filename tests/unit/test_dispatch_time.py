"""Running deliveries in virtual time: who waits for how long."""

import asyncio
from datetime import datetime, timedelta

from service.handling import Event, Tools
from tests.simulation.loop import own_loop
from tests.unit.deliveries import NOW, MovedClock, handler, stage


class LoopClock(MovedClock):
    """A clock that goes with the virtual time of the running loop."""

    def now(self) -> datetime:
        """Return the loop's time."""
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())


async def _take_14_seconds(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id
    await asyncio.sleep(14)


def test_what_was_abandoned_together_begins_apart() -> None:
    """What was in hand when a process ended begins scattered, and the time that an attempt has counts from there."""

    async def story() -> None:
        made = stage(handler("slow", _take_14_seconds, timeout=15), clock=LoopClock(), jitter=lambda: 0.5)
        for abandoned in (1, 9, 0):
            made.queue.put("slow", abandoned=abandoned)
        await asyncio.gather(*await made.dispatch.begin())
        began = {one.delivery_id: (one.started_at - NOW).total_seconds() for one in made.queue.results}
        assert began == {"delivery-1": 1.5, "delivery-2": 13.5, "delivery-3": 0.0}
        assert {one.outcome for one in made.queue.results} == {"delivered"}
        await made.dispatch.drain(0)

    with own_loop() as loop:
        loop.run_until_complete(story())
