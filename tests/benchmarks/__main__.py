"""Print the table: `python -m tests.benchmarks [--short] [--profile FILE] [NAME ...]`."""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from tests.benchmarks import (
    measure_callbacks,
    measure_claims,
    measure_deliveries,
    measure_fleet,
    measure_starts,
    measure_submits,
    measure_upstream,
)
from tests.benchmarks.environment import SHORT, Sizes, Stage, stage
from tests.benchmarks.table import Row, machine, rendered

Measure = Callable[[Stage], Awaitable[list[Row]]]

MEASURES: dict[str, Measure] = {
    "callbacks": measure_callbacks.on_sqlite,
    "callbacks-postgres": measure_callbacks.on_postgres,
    "latency": measure_deliveries.one_at_a_time,
    "deliveries": measure_deliveries.many,
    "fleet": measure_fleet.fleet,
    "polls": measure_upstream.polls,
    "requests": measure_upstream.requests,
    "claims": measure_claims.claims,
    "starts": measure_starts.starts,
    "submits": measure_submits.submits,
}


async def measured(name: str, sizes: Sizes, profile: Path | None) -> list[Row]:
    """Return the rows of one measure."""
    with stage(sizes, profile) as at:
        return await MEASURES[name](at)


def main() -> None:
    """Run as the module's docstring says."""
    parser = ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("names", nargs="*", choices=[*MEASURES, []], help="which measures; all by default")
    parser.add_argument("--short", action="store_true", help="tiny sizes, only to see that everything works")
    parser.add_argument("--profile", type=Path, help="write what cProfile saw in the service")
    chosen = parser.parse_args()
    rows: list[Row] = []
    for name in chosen.names or MEASURES:
        began = time.monotonic()
        rows += anyio.run(measured, name, SHORT if chosen.short else Sizes(), chosen.profile)
        sys.stderr.write(f"{name}: {time.monotonic() - began:.0f} s\n")
    sys.stdout.write(f"{machine()}\n\n{rendered(rows)}\n")


if __name__ == "__main__":
    main()
