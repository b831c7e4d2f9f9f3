"""Print the table: `python -m tests.benchmarks [--short] [--profile FILE] [NAME ...]`."""

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
    measure_starts,
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
    "polls": measure_upstream.polls,
    "requests": measure_upstream.requests,
    "chats": measure_chats.chats,
    "claims": measure_claims.claims,
    "starts": measure_starts.starts,
    "submits": measure_submits.submits,
    "waits": measure_waits.waits,
}


async def run_measure(name: str, sizes: Sizes, profile: Path | None) -> list[Row]:
    """Return the rows of one measure."""
    with open_environment(sizes, profile) as at:
        return await MEASURES[name](at)


def main() -> None:
    """Run the command of the module's docstring."""
    parser = ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", choices=[*MEASURES, []], help="measures to run; all by default")
    parser.add_argument("--short", action="store_true", help="tiny sizes, to check that everything works")
    parser.add_argument("--profile", type=Path, help="write cProfile's statistics of the service")
    options = parser.parse_args()
    rows: list[Row] = []
    for name in options.names or MEASURES:
        started_at = time.monotonic()
        rows += anyio.run(run_measure, name, SHORT if options.short else Sizes(), options.profile)
        sys.stderr.write(f"{name}: {time.monotonic() - started_at:.0f} s\n")
    sys.stdout.write(f"{machine()}\n\n{render(rows)}\n")


if __name__ == "__main__":
    main()
