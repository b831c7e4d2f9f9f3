"""An album that two replicas receive, and jobs of two workers, on each database."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.deliveries.handler_api import Handlers
from service.deliveries.handler_jobs import CONCURRENCY, JobRequests, JobRunner
from service.deliveries.handler_parts import Job
from service.deliveries.handler_state import HandlerState
from service.deliveries.tools import Event, Tools
from service.storage import Store
from tests.storage.builders import NOW
from tests.storage.conftest import OpenStore
from tests.support.delivery_builders import ManualClock, RecordingSignals, Results

LEASE = timedelta(seconds=60)


class Replica:
    """One process with a bot: it receives photos and runs jobs. All replicas share `clock` and `albums`."""

    def __init__(self, store: Store, clock: ManualClock, albums: list[list[int]], hang: asyncio.Event) -> None:
        self.clock, self.albums, self.hang = clock, albums, hang
        handlers = Handlers()
        for name in ("bot", "other"):
            handlers.on(name=name, by_request=True)(self.event)
        handlers.job("assemble", name="bot")(self.assemble)
        handlers.job("wait", name="other")(self.wait)
        self.store = store
        self.tools = {name: self._tools(name, job) for name, job in (("bot", "assemble"), ("other", "wait"))}
        self.runner = JobRunner(
            handlers=list(handlers),
            store=store.handler_jobs,
            tools=lambda handler: self.tools[handler.name],
            clock=clock,
            lease=LEASE,
            signals=RecordingSignals(),
            jitter=lambda: 0.0,
        )

    def _tools(self, name: str, job: str) -> Tools[Any, Any]:
        ids = iter(range(1_000_000))
        return Tools(
            http=httpx.AsyncClient(),
            log=logging.getLogger(),
            results=Results(),
            now=self.clock.now,
            state=HandlerState(store=self.store.handler_state, handler=name, now=self.clock.now),
            jobs=JobRequests(
                handler=name,
                names=frozenset({job}),
                store=self.store.handler_jobs,
                now=self.clock.now,
                new_id=lambda: f"{id(self)}-{name}-{next(ids)}",
            ),
        )

    async def event(self, event: Event, tools: Tools) -> None:
        """Do nothing."""

    async def receive(self, album: str, photo: int) -> None:
        """Store a photo, and let the album be assembled after a quiet time."""
        await self.tools["bot"].state.append(f"album:{album}", photo, expires_in=3600)
        await self.tools["bot"].schedule("assemble", album, after=6.5, within=12)

    async def assemble(self, job: Job, tools: Tools) -> None:
        """Take all photos of the album."""
        self.albums.append(sorted(await tools.state.pop(f"album:{job.key}", [])))

    async def wait(self, job: Job, tools: Tools) -> None:  # noqa: ARG002 - the interface of jobs
        """Hang."""
        await self.hang.wait()


@pytest.fixture
def replicas(open_another: OpenStore) -> tuple[Replica, Replica]:
    """Return two processes on one database."""
    clock, albums, hang = ManualClock(NOW), list[list[int]](), asyncio.Event()
    first, second = (Replica(open_another(), clock, albums, hang) for _ in range(2))
    return first, second


async def run_due(replicas: tuple[Replica, Replica]) -> None:
    """Let both processes run what is due."""
    started = [task for each in await asyncio.gather(*(one.runner.start_due() for one in replicas)) for task in each]
    await asyncio.gather(*started)


async def test_late_photo_at_another_replica_is_in_the_same_album(replicas: tuple[Replica, Replica]) -> None:
    """The last photo comes six seconds after the others, at the other process: one album with all."""
    first, second = replicas
    await asyncio.gather(first.receive("a", 1), second.receive("a", 2), first.receive("a", 3))
    for _ in range(6):
        first.clock.at += timedelta(seconds=1)
        await run_due(replicas)
    await second.receive("a", 4)
    for _ in range(8):
        first.clock.at += timedelta(seconds=1)
        await run_due(replicas)
    assert first.albums == [[1, 2, 3, 4]]


async def test_handler_whose_jobs_hang_delays_no_other(replicas: tuple[Replica, Replica]) -> None:
    """Each handler has slots of its own; what hangs is released at the end."""
    first, second = replicas
    for _ in range(2 * CONCURRENCY + 3):
        await first.tools["other"].schedule("wait")
    hanging = await first.runner.start_due() + await second.runner.start_due()
    assert len(hanging) == 2 * CONCURRENCY
    await first.receive("a", 1)
    first.clock.at += timedelta(seconds=7)
    await asyncio.gather(*(await first.runner.start_due()))
    assert first.albums == [[1]]
    first.hang.set()
    await asyncio.gather(*hanging)
    await asyncio.gather(*(await second.runner.start_due()))
    assert await second.runner.start_due() == []
