"""The event stream over connections that are cut, with two web processes over one PostgreSQL.

Events are committed by several writers at once, without a pause between them, while one reader follows them: at
alternating processes, over a proxy that cuts its connection again and again. What it got is compared with the log.

`python -m tests.acceptance.event_stream [--events N] [--cuts N]`
"""

import argparse
import asyncio
import random
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import anyio
import httpx

from service.storage import Store, open_store
from tests.acceptance.environment import prepare, serve, settings
from tests.acceptance.processes import HOST, Child, Workspace, until
from tests.storage.builders import an_event
from tests.support.ports import free_port
from tests.support.postgres import create_database, running_postgres
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

WRITERS = 4
MAX_IN_A_COMMIT = 7
TIMEOUT = 300.0
CLIENT = "anna"


@dataclass(kw_only=True)
class Reader:
    """Follows the stream over many connections; `ids` are those of the events that it got as a whole, in order."""

    ids: list[int] = field(default_factory=list)
    connections: int = 0

    async def follow(self, bases: list[str], key: str, *, total: int) -> None:
        """Read until there are `total` events; connect to the next process after each cut."""
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(trust_env=False, timeout=30, headers=headers) as http:
            while len(self.ids) < total:
                base = bases[self.connections % len(bases)]
                with suppress(httpx.TransportError):
                    await self._read(http, base, total)

    async def _read(self, http: httpx.AsyncClient, base: str, total: int) -> None:
        position = {"Last-Event-ID": str(self.ids[-1])} if self.ids else {}
        async with http.stream("GET", f"{base}/v1/events?after=0", headers=position) as response:
            response.raise_for_status()
            self.connections += 1
            number = 0
            async for line in response.aiter_lines():
                if line.startswith("id: "):
                    number = int(line[4:])
                elif not line and number:  # the empty line ends the event; one that is cut off does not count
                    self.ids.append(number)
                    number = 0
                if len(self.ids) >= total:
                    return


@dataclass(kw_only=True)
class Cuts:
    """Cuts all connections `total` times, evenly over the events; no cut is left out, however slow it comes.

    Each waits until the reader has connected again, and the writers wait for it before they write the events behind it.
    """

    proxies: list[TcpProxy]
    reader: Reader
    events: int
    total: int
    done: int = 0
    written: int = 0

    @property
    def _next(self) -> int:
        """Return after how many events the next cut comes."""
        return (self.done + 1) * self.events // (self.total + 1)

    async def run(self) -> None:
        """Cut until it is done."""
        while self.done < self.total:
            await anyio.sleep(0.002)
            if len(self.reader.ids) >= self._next and self.reader.connections > self.done:
                for proxy in self.proxies:
                    proxy.cut()
                self.done += 1

    async def wait(self, count: int) -> None:
        """Wait until `count` more events may be written."""
        await until(lambda: self.done == self.total or self.written < self._next, what="the next cut", pause=0.002)
        self.written += count


async def write(store: Store, name: str, total: int, cuts: Cuts, *, seed: int) -> None:
    """Commit events of two clients in transactions of several; every fifth one is not of CLIENT."""
    chance = random.Random(seed)  # noqa: S311 - repeatable
    done = 0
    while done < total:
        count = min(chance.randint(1, MAX_IN_A_COMMIT), total - done)
        await cuts.wait(count)
        rows = [an_event(f"{name}-{done + each}", client=CLIENT) for each in range(count)]
        others = [an_event(f"{name}-{done}-other", client="other")] if chance.random() < 0.3 else []
        async with store.units_of_work.transaction() as transaction:
            await transaction.append([*others, *rows], [])
            transaction.notify(["events"])
        done += count


async def run(workspace: Workspace, database_url: str, *, events: int, cuts: int) -> str:
    """Run it; return what was measured. Raises AssertionError for an event that is missing or came twice."""
    children = await web_processes(workspace, database_url)
    reader, began = Reader(), monotonic()
    async with tcp_proxy(children[0].url) as one, tcp_proxy(children[1].url) as two:
        bases = [f"http://{HOST}:{proxy.port}" for proxy in (one, two)]
        async with asyncio.timeout(TIMEOUT), open_store(database_url) as first, open_store(database_url) as second:
            async with asyncio.TaskGroup() as group:
                cutting = Cuts(proxies=[one, two], reader=reader, events=events, total=cuts)
                group.create_task(cutting.run())
                group.create_task(reader.follow(bases, "key-of-anna", total=events))
                for number in range(WRITERS):
                    store = (first, second)[number % 2]
                    group.create_task(write(store, f"w{number}", events // WRITERS, cutting, seed=number))
            logged = [each.seq for each in await first.events.after(0, client=CLIENT, limit=2 * events)]
    assert reader.ids == logged, compared(reader.ids, logged)
    assert len(logged) == events
    assert reader.connections > cuts, f"only {reader.connections} connections"
    seconds = monotonic() - began
    return f"{events} events over {reader.connections} connections in {seconds:.1f} s: none missing, none twice"


def compared(got: list[int], logged: list[int]) -> str:
    """Return what is wrong with the events that a reader got."""
    missing, twice = set(logged) - set(got), len(got) - len(set(got))
    return f"{len(missing)} missing, {twice} twice, {'in' if got == sorted(got) else 'out of'} order"


async def web_processes(workspace: Workspace, database_url: str) -> list[Child]:
    """Start two web processes."""
    started: list[Child] = []
    await prepare(database_url)
    for _ in range(2):
        own = f"http://{HOST}:{free_port()}"
        env = settings(f"http://{HOST}:9", own, database_url) | {
            "BOOMERANG_API_KEYS": "anna=key-of-anna,root=key-of-root:admin"
        }
        started.append(await serve(workspace, env, role="web"))
    return started


async def main() -> None:
    """Run the long form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--cuts", type=int, default=50)
    wanted = parser.parse_args()
    with (
        running_postgres() as server,
        tempfile.TemporaryDirectory() as home,
        Workspace(home=Path(home), quiet=True) as workspace,
    ):
        measured = await run(workspace, create_database(server), events=wanted.events, cuts=wanted.cuts)
    sys.stdout.write(f"{measured}\n")


if __name__ == "__main__":
    asyncio.run(main())
