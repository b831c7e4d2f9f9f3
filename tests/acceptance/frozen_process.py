"""A serverless process that is stopped (SIGSTOP) whenever no request is open: what is done, how often, at which cost.

`python -m tests.acceptance.frozen_process [--tasks N] [--postgres]`. Real processes on loopback, behind a proxy that
stops the service without any delay. Prints tasks, ticks, seconds awake and bills of each scenario. Exits with 1 if a
requirement is not met.
"""

import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import anyio
import httpx

from service.domain.webhook_secrets import derive_webhook_secret
from tests.acceptance.bookkeeping import RunRecords, read_records
from tests.acceptance.environment import (
    IMAGE,
    MODEL,
    SECRET,
    SETTLED,
    Service,
    Upstream,
    client,
    prepare,
    serve,
    service,
    settings,
    sqlite,
    upstream,
)
from tests.acceptance.processes import HOST, TIMEOUT, Workspace, until
from tests.acceptance.receiver import Receiver, receiving
from tests.support.freezing_proxy import FreezingProxy, freezing_proxy
from tests.support.ports import free_port
from tests.support.postgres import create_database, drop_database, running_postgres

HANDLERS: dict[str, frozenset[str] | None] = {
    "log": None,
    "webhook": None,
    "archive": frozenset({"task.completed"}),
}
TICK_PAUSE = 0.3
"""Seconds between two calls of the cron job, while the process is stopped."""

CLIENT_TIMEOUT = 0.05
"""Seconds after which an impatient client goes away."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Tasks, with or without a cron job, through a provider with `faults`.

    Each of the `impatient` first clients goes away before its answer and submits again with the same idempotency key.
    """

    name: str
    tasks: int
    cron: bool
    faults: Mapping[str, str] = field(default_factory=dict)
    impatient: int = 0


def scenarios(count: int) -> list[Scenario]:
    """Return all scenarios, with `count` tasks where there are many."""
    return [
        Scenario(name="no cron job", tasks=1, cron=False),
        Scenario(name="lost callbacks", tasks=count, cron=True, faults={"lose-callbacks": "1"}),
        Scenario(
            name="faults, impatient clients",
            tasks=count,
            cron=True,
            impatient=count // 2,
            faults={
                "lose-callbacks": "0.3",
                "double-callbacks": "0.2",
                "callback-before-reply": "0.1",
                "lose-create-reply": "0.2",
                "slow-create": "0.2",
                "create-delay": "500ms..2s",
                "slow-poll": "0.2",
                "poll-delay": "500ms..2s",
            },
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What happened: `ticks` calls of the cron job; `awake` of `seconds` the process ran."""

    scenario: Scenario
    records: RunRecords
    ticks: int
    requests: int
    stops: int
    abandoned: int
    awake: float
    seconds: float

    @property
    def faults(self) -> list[str]:
        """Return a message for each requirement that is not met."""
        again = {owner: count for owner, count in self.records.bills_by_task.items() if count > 1}
        twice = [f"billed twice: {again}"] if again else []
        return [*twice, *self.records.faults(count=self.scenario.tasks)]

    def rows(self) -> Iterator[tuple[str, object]]:
        """Yield the results with their names."""
        records = self.records
        yield "tasks", len(records.tasks)
        yield "  by status", _format(records.statuses)
        yield "  settled by", _format(records.sources)
        yield "bills", len(records.ledger["bills"])
        yield "  of exactly one task", records.attributable_bills
        yield "ticks of the cron job", self.ticks
        yield "requests in all", self.requests
        yield "  whose client went away", self.abandoned
        yield "stops of the process", self.stops
        yield "seconds awake", f"{self.awake:.1f} of {self.seconds:.1f}"
        yield "in doubt", f"{len(records.in_doubt)} ({_format(records.resolutions)})"
        yield "webhooks received", f"{len(records.webhooks & records.received)} of {len(records.webhooks)}"
        yield "results archived", sum("artifact.stored" in records.events_of(task["id"]) for task in records.tasks)


def _format(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count) or "none"


async def run(workspace: Workspace, scenario: Scenario, database_url: str) -> Run:
    """Run one scenario against a process that is stopped between the requests."""
    async with frozen_service(workspace, database_url, scenario.faults) as at:
        started = time.monotonic()
        ticks = await _work(at, scenario)
        seconds = time.monotonic() - started
        at.proxy.release()
        records = await read_records(at.direct, at.sandbox, at.receiver, HANDLERS)
        proxy = at.proxy
    return Run(
        scenario=scenario,
        records=records,
        ticks=ticks,
        requests=proxy.requests,
        stops=proxy.stops,
        abandoned=proxy.abandoned,
        awake=proxy.awake,
        seconds=seconds,
    )


@dataclass(frozen=True, kw_only=True)
class FrozenService:
    """A service behind a proxy that stops it; `direct` leads past the proxy, and `through` through it."""

    proxy: FreezingProxy
    through: httpx.AsyncClient
    direct: Service
    sandbox: Upstream
    receiver: Receiver
    env: Mapping[str, str] = field(repr=False)

    async def submit(self, *, gone_after: float = TIMEOUT) -> None:
        """Submit a task; a client whose `gone_after` seconds are over goes away, and submits it again."""
        body = {"model": MODEL, "params": {"prompt": "a cat", "images": [IMAGE]}}
        key = {"Idempotency-Key": uuid4().hex}
        with suppress(httpx.TimeoutException):
            if gone_after < TIMEOUT:
                await self.through.post("/v1/tasks", json=body, headers=key, timeout=gone_after)
        answer = await self.through.post("/v1/tasks", json=body, headers=key)
        assert answer.status_code in {200, 202}, answer.text

    async def tick_until(self, count: int) -> bool:
        """Call as a cron job does; return whether `count` tasks are settled and nothing is left to deliver."""
        (await self.through.post("/v1/reconcile")).raise_for_status()
        return await self.all_done(count)

    async def all_done(self, count: int) -> bool:
        """Return whether `count` tasks are settled and nothing is left to deliver, at the cost of one request."""
        text = (await self.through.get("/metrics")).raise_for_status().text
        now = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        settled = sum(float(now.get(f'boomerang_tasks{{status="{status}"}}', 0)) for status in SETTLED)
        return settled >= count and not float(now.get('boomerang_deliveries{status="pending"}', 0))


@asynccontextmanager
async def frozen_service(
    workspace: Workspace, database_url: str, faults: Mapping[str, str] | None = None, **more: str
) -> AsyncIterator[FrozenService]:
    """Start a serverless process and stop it whenever no request is open; `more` are further settings."""
    switches = [word for name, value in (faults or {}).items() for word in (f"--{name}", value) if word]
    port, public = free_port(), free_port()
    async with (
        upstream(workspace, "--tiny-videos", "--run-time", "1s..3s", "--seed", "1", *switches) as sandbox,
        receiving(derive_webhook_secret(SECRET)) as receiver,
        freezing_proxy(port, public) as proxy,
        client(f"http://{HOST}:{public}") as through,
    ):
        given = {
            "SERVERLESS": "on",
            "WEBHOOK_URL": receiver.url,
            "ARCHIVE_URL": (workspace.home / "videos").as_uri(),
            "IN_DOUBT_FOR": "10s",
            **more,
        }
        env = settings(sandbox.url, f"http://{HOST}:{public}", database_url, **given)
        await prepare(database_url)
        child = await serve(workspace, env, port=port)
        proxy.freeze(child.process.pid)
        async with service(child) as direct:
            yield FrozenService(
                proxy=proxy, through=through, direct=direct, sandbox=sandbox, receiver=receiver, env=env
            )
            proxy.release()
        child.terminate()
        await child.ended()


async def _work(at: FrozenService, scenario: Scenario) -> int:
    """Submit the tasks and wait until everything is done; return how often the cron job called."""
    for number in range(scenario.tasks):
        await at.submit(gone_after=CLIENT_TIMEOUT if number < scenario.impatient else TIMEOUT)
    if not scenario.cron:
        # nothing but the provider's callback wakes the process
        await at.receiver.received("artifact.stored")
        await until(lambda: at.all_done(scenario.tasks), what="the end of all work")
        return 0
    ticks = 0
    with anyio.fail_after(TIMEOUT * 2):
        while not await at.all_done(scenario.tasks):
            await anyio.sleep(TICK_PAUSE)
            (await at.through.post("/v1/reconcile")).raise_for_status()
            ticks += 1
    return ticks


@contextmanager
def _databases(*, postgres: bool) -> Iterator[str | None]:
    if not postgres:
        yield None
        return
    with running_postgres() as server:
        yield server


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.acceptance.frozen_process", description=__doc__)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--postgres", action="store_true", help="PostgreSQL instead of SQLite")
    return parser.parse_args()


def main() -> int:
    """Run every scenario, print its results and return the exit code."""
    options, failed = _options(), 0
    with _databases(postgres=options.postgres) as server:
        for scenario in scenarios(options.tasks):
            with (
                tempfile.TemporaryDirectory() as home,
                Workspace(home=Path(home), quiet=True) as workspace,
            ):
                url = create_database(server) if server else sqlite(workspace)
                done = anyio.run(run, workspace, scenario, url)
                workspace.end()
                if server:
                    drop_database(server, url)
            sys.stdout.write(f"── {scenario.name}\n")
            sys.stdout.writelines(f"{name:26}{value}\n" for name, value in done.rows())
            sys.stdout.writelines(f"FAILED: {fault}\n" for fault in done.faults)
            failed += bool(done.faults)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
