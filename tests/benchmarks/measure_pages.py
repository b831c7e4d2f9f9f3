"""Pages, lists and searches with many tasks stored, beside few; event streams are open, and the memory must stay flat.

The tasks are spread over 30 days, and vary as in `grown_tables`: each list has a full page with few tasks too. `few`
and `many` are answered by two web processes, in turn, over SQLite, or with --postgres over one server.
"""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx

from service.storage import migrate, open_store
from tests.acceptance.environment import client
from tests.acceptance.processes import Child
from tests.benchmarks.environment import BenchmarkEnvironment, stopping
from tests.benchmarks.table import Row, milliseconds
from tests.support.grown_tables import grow
from tests.support.postgres import PostgresServer, create_database, postgres_server

ADMIN, CLIENT = "admin-key-of-the-pages", "client-key-of-the-pages"
SPREAD = timedelta(days=30)
MAX_RATIO = 1.5
MAX_GROWTH = 1.1
NO_LISTS = ("health", "usage")
"""Pages that read a fixed number of rows, or those of a day: few tasks do not have them."""
OWN = "RssAnon"
"""Memory of the process alone: pages of the file that the system keeps in its memory do not count."""

PAGES = (
    ("front page", "/"),
    ("tasks", "/tasks"),
    ("failed tasks", "/tasks?status=failed"),
    ("tasks in doubt, of which there are none", "/tasks?status=in_doubt"),
    ("tasks of a model", "/tasks?model=viduq2_pro_text2video"),
    ("tasks of no model", "/tasks?model=nothing"),
    ("search of a frequent word", "/tasks?q=boomerang"),
    ("search of a rarer word", "/tasks?q=volcano"),
    ("search of two words", "/tasks?q=volcano+boomerang"),
    ("search of an id", "/tasks?q=upstream-77"),
    ("tasks as JSON", "/v1/tasks?limit=50"),
    ("dead letters", "/deliveries"),
    ("dead letters of a handler that has none", "/deliveries?handler=nothing"),
    ("delivered deliveries", "/deliveries?status=delivered"),
    ("delivered to a handler that has none", "/deliveries?status=delivered&handler=nothing"),
    ("usage, a day", "/v1/usage?from={day}&to={day}"),
    ("endpoints", "/endpoints"),
    ("new task", "/new"),
    ("health, a day", "/health?range=24h"),
    ("health, 30 days", "/health?range=30d"),
)


@dataclass(frozen=True, kw_only=True)
class Site:
    """A web process with its database, and a client of it for each key."""

    child: Child
    clients: dict[str, httpx.AsyncClient]

    async def seconds(self, key: str, path: str) -> float:
        """Return how long the answer to a request takes; raises an error unless it is a 200."""
        began = time.perf_counter()
        (await self.clients[key].get(path)).raise_for_status()
        return time.perf_counter() - began


async def pages(environment: BenchmarkEnvironment) -> list[Row]:
    """Return the shortest time of each page with many tasks beside few, and the growth of memory."""
    sizes = environment.sizes
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres_server(durable=True) if environment.postgres else nullcontext(None))
        few = await stack.enter_async_context(_site(environment, server, "few", sizes.few_pages))
        many = await stack.enter_async_context(_site(environment, server, "many", sizes.many_pages))
        for site in (few, many):
            await stack.enter_async_context(_listening(site, sizes.streams))
        rows: list[Row] = []
        day = (datetime.now(UTC) - timedelta(days=3)).date().isoformat()
        for name, key in (("admin", ADMIN), ("client", CLIENT)):
            for page, address in PAGES:
                path = address.format(day=day)
                times = await _times(few, many, key, path, sizes.page_requests)
                on = "PostgreSQL" if server else "SQLite"
                rows.append(_row(f"{page}, {name}, {sizes.many_pages:,} tasks, {on}", times, sizes.few_pages))
        before = many.child.memory(OWN)
        for _ in range(sizes.page_requests):
            for _, path in PAGES:
                await many.seconds(ADMIN, path.format(day=day))
        return [*rows, _memory(before, many.child.memory(OWN), sizes.page_requests * len(PAGES))]


async def _times(few: Site, many: Site, key: str, path: str, count: int) -> tuple[float, float]:
    """Return the shortest seconds of a page with few and with many tasks: other users of the machine lengthen them."""
    found = [(await few.seconds(key, path), await many.seconds(key, path)) for _ in range(count + 1)]
    return min(each for each, _ in found), min(each for _, each in found)


def _row(measure: str, times: tuple[float, float], few_tasks: int) -> Row:
    few, many = times
    bounded = measure.startswith(NO_LISTS)
    return Row(
        measure=measure,
        figure=milliseconds(many),
        floor=f"{milliseconds(few)} ({few_tasks:,} tasks)",
        ratio=f"{many / few:.2f}",
        target="" if bounded else f"{MAX_RATIO:.2f} or less",
        reached=None if bounded else many <= few * MAX_RATIO,
    )


@asynccontextmanager
async def _site(
    environment: BenchmarkEnvironment, server: PostgresServer | None, name: str, tasks: int
) -> AsyncIterator[Site]:
    """Run a web process over a database with `tasks` tasks, most of them of the client `anna`."""
    database = create_database(server.url) if server else environment.sqlite(f"pages-{name}")
    await migrate(database)
    async with open_store(database) as store:
        await grow(store, tasks, handler="log", over=SPREAD, at=datetime.now(UTC), varied=True)
    keys = f"ops={ADMIN}:admin,anna={CLIENT}"
    child = await environment.service(database, role="web", API_KEYS=keys)
    async with stopping(child), client(child.url, key=ADMIN) as admin, client(child.url, key=CLIENT) as anna:
        yield Site(child=child, clients={ADMIN: admin, CLIENT: anna})


@asynccontextmanager
async def _listening(site: Site, streams: int) -> AsyncIterator[None]:
    """Keep event streams open, as that many open pages do."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=site.child.url,
                headers={"Authorization": f"Bearer {ADMIN}"},
                timeout=600,
                limits=httpx.Limits(max_connections=None),
                trust_env=False,
            )
        )
        for _ in range(streams):
            found = await stack.enter_async_context(http.stream("GET", "/v1/events"))
            found.raise_for_status()
        yield


def _memory(before: int, after: int, requests: int) -> Row:
    mb = 1024 * 1024
    return Row(
        measure=f"memory after {requests:,} more pages",
        figure=f"{after / mb:.1f} MB",
        floor=f"{before / mb:.1f} MB before",
        ratio=f"{after / before:.2f}",
        target=f"{MAX_GROWTH:.2f} or less",
        reached=after <= before * MAX_GROWTH,
    )
