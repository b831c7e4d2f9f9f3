"""Many tasks through a provider that loses, duplicates and reorders callbacks.

`python -m tests.acceptance.lossy_provider [--tasks N] [--postgres]`. Real processes on loopback. Prints a table of the
outcomes. Exits with 1 if a requirement is not met.
"""

import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from service.domain.webhook_secrets import derive_webhook_secret
from tests.acceptance.bookkeeping import RunRecords, read_records
from tests.acceptance.environment import (
    SECRET,
    Service,
    prepare,
    serve,
    service,
    settings,
    sqlite,
    submit_many,
    upstream,
    worker,
)
from tests.acceptance.processes import HOST, Child, Workspace
from tests.acceptance.receiver import receiving
from tests.support.ports import free_port
from tests.support.postgres import create_database, drop_database, running_postgres

FAULTS = {
    "lose-callbacks": "0.3",
    "double-callbacks": "0.2",
    "reorder-callbacks": "0.2",
    "late-callbacks": "0.1",
    "callback-lateness": "1s..3s",
    "lose-create-reply": "0.05",
    "run-time": "1s..3s",
}
HANDLERS: dict[str, frozenset[str] | None] = {
    "log": None,
    "webhook": None,
    "archive": frozenset({"task.completed"}),
}
MINUTES = 15


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: its records, and the seconds from the first submission until all work was done."""

    records: RunRecords
    count: int
    seconds: float

    @property
    def faults(self) -> list[str]:
        """Return a message for each requirement that is not met."""
        return self.records.faults(count=self.count)

    def table(self) -> str:
        """Return the results as a table."""
        rows = list(self._rows())
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)

    def _rows(self) -> Iterator[tuple[str, object]]:
        records = self.records
        yield "tasks", len(records.tasks)
        yield "by status", _format_counts(records.statuses)
        yield "settled by", _format_counts(records.sources)
        yield "bills", len(records.ledger["bills"])
        yield "  of exactly one task", records.attributable_bills
        yield "events", len(records.rows("event"))
        yield "deliveries expected", len(records.expected)
        yield "  delivered", len(records.delivered & records.expected)
        yield "webhooks received", f"{len(records.webhooks & records.received)} of {len(records.webhooks)}"
        yield "tasks with two final events", records.settled_twice
        yield "in doubt", len(records.in_doubt)
        yield "  resolved", _format_counts(records.resolutions)
        yield "callbacks of the provider", _format_counts(Counter(records.ledger["callbacks"]))
        yield "callbacks in the inbox", _format_counts(Counter(row["verdict"] for row in records.rows("callback")))
        yield "requests to the provider", _format_counts(Counter(records.ledger["requests"]))
        requests = sum(count for kind, count in records.ledger["requests"].items() if kind != "download")
        yield "  per task", f"{requests / self.count:.2f}"
        yield "seconds", f"{self.seconds:.1f}"


def _format_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count) or "none"


async def run(
    workspace: Workspace,
    count: int,
    *,
    database_url: str,
    workers: int,
    provider: str,
    seed: int,
    faults: Mapping[str, str] = FAULTS,
) -> Run:
    """Run `count` tasks; with 0 `workers`, one process does all."""
    switches = [word for name, value in faults.items() for word in (f"--{name}", value)]
    some = ("--seed", str(seed), "--tiny-videos", "--vidu-concurrency", "0", *switches)
    async with upstream(workspace, *some) as sandbox, receiving(derive_webhook_secret(SECRET)) as receiver:
        base = sandbox.url + ("/ent/v2" if provider == "vidu" else "")
        more = {
            "PROVIDER": provider,
            "WEBHOOK_URL": receiver.url,
            "ARCHIVE_URL": (workspace.home / "videos").as_uri(),
            "IN_DOUBT_FOR": "20s",
            "LOG_LEVEL": "warning",
        }
        env = settings(base, f"http://{HOST}:{free_port()}", database_url, **more)
        async with serving(workspace, env, workers) as at:
            started = time.monotonic()
            await submit_many(at, count)
            await at.wait_until_idle(seconds=MINUTES * 60)
            seconds = time.monotonic() - started
            records = await read_records(at, sandbox, receiver, HANDLERS)
        return Run(records=records, count=count, seconds=seconds)


@asynccontextmanager
async def serving(workspace: Workspace, env: dict[str, str], workers: int) -> AsyncIterator[Service]:
    """Run one process that does all, or one web process and `workers` workers."""
    children: list[Child] = []
    if workers:
        await prepare(env["BOOMERANG_DATABASE_URL"])
        children = [await worker(workspace, env, name=f"worker-{number}") for number in range(workers)]
    children.append(await serve(workspace, env, role="web" if workers else "all"))
    async with service(children[-1]) as at:
        yield at
    for child in children:
        child.terminate()
        await child.ended()


@contextmanager
def _database(workspace: Workspace, *, postgres: bool) -> Iterator[str]:
    if not postgres:
        yield sqlite(workspace)
        return
    with running_postgres() as server:
        url = create_database(server)
        yield url
        drop_database(server, url)


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.acceptance.lossy_provider", description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--postgres", action="store_true", help="PostgreSQL, one web process and the workers")
    parser.add_argument("--workers", type=int, default=3, help="with --postgres")
    parser.add_argument("--provider", choices=["vtrix", "vidu"], default="vtrix")
    parser.add_argument("--seed", type=int, default=1, help="seed of the injected faults")
    return parser.parse_args()


def main() -> int:
    """Run the tasks, print the table and return the exit code."""
    options = _options()
    with (
        tempfile.TemporaryDirectory() as home,
        Workspace(home=Path(home), quiet=True) as workspace,
        _database(workspace, postgres=options.postgres) as url,
    ):
        workers = options.workers if options.postgres else 0
        some = {"database_url": url, "workers": workers, "provider": options.provider, "seed": options.seed}
        done = anyio.run(lambda: run(workspace, options.tasks, **some))
    sys.stdout.write(done.table() + "\n")
    for fault in done.faults:
        sys.stdout.write(f"FAILED: {fault}\n")
    return 1 if done.faults else 0


if __name__ == "__main__":
    sys.exit(main())
