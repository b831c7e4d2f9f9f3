"""Print the table: `python -m tests.benchmarks [--short] [--profile FILE] [--minutes N] [--postgres] [NAME ...]`."""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from tests.benchmarks import (
    measure_callbacks,
    measure_chats,
    measure_claims,
    measure_defaults,
    measure_deliveries,
    measure_fleet,
    measure_growth,
    measure_pages,
    measure_soak,
    measure_starts,
    measure_submissions,
    measure_submits,
    measure_upstream,
    measure_waits,
)
from tests.benchmarks.environment import SHORT, BenchmarkEnvironment, Sizes, open_environment
from tests.benchmarks.table import Row, machine, render

Measure = Callable[[BenchmarkEnvironment], Awaitable[list[Row]]]

MEASURES: dict[str, Measure] = {
    "defaults": measure_defaults.defaults,
    "callbacks": measure_callbacks.on_sqlite,
    "callbacks-postgres": measure_callbacks.on_postgres,
    "latency": measure_deliveries.one_at_a_time,
    "deliveries": measure_deliveries.many,
    "fleet": measure_fleet.fleet,
    "growth": measure_growth.growth,
    "pages": measure_pages.pages,
    "polls": measure_upstream.polls,
    "requests": measure_upstream.requests,
    "chats": measure_chats.chats,
    "claims": measure_claims.claims,
    "starts": measure_starts.starts,
    "submits": measure_submits.submits,
    "submissions": measure_submissions.submissions,
    "waits": measure_waits.waits,
    "soak": measure_soak.soak,
}


NAMED_ONLY = frozenset({"soak"})
"""Measures that run only if they are named: they take long."""


async def run_measure(name: str, sizes: Sizes, profile: Path | None, postgres: bool = False) -> list[Row]:
    """Return the rows of one measure."""
    with open_environment(sizes, profile, postgres=postgres) as at:
        return await MEASURES[name](at)


def main() -> None:
    """Run the command of the module's docstring."""
    parser = ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", choices=[*MEASURES, []], help="measures to run; all by default")
    parser.add_argument("--short", action="store_true", help="tiny sizes, to check that everything works")
    parser.add_argument(
        "--profile",
        type=Path,
        help="write cProfile's statistics of the service; into a file *.txt sampled shares of functions",
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="length of the soak")
    parser.add_argument("--postgres", action="store_true", help="soak and pages over PostgreSQL instead of SQLite")
    options = parser.parse_args()
    sizes = SHORT if options.short else Sizes(soak_seconds=60 * options.minutes)
    rows: list[Row] = []
    for name in options.names or [name for name in MEASURES if name not in NAMED_ONLY]:
        started_at = time.monotonic()
        rows += anyio.run(run_measure, name, sizes, options.profile, options.postgres)
        sys.stderr.write(f"{name}: {time.monotonic() - started_at:.0f} s\n")
    sys.stdout.write(f"{machine()}\n\n{render(rows)}\n")


if __name__ == "__main__":
    main()
