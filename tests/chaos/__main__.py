"""Faults with real processes, and the books afterwards: `python -m tests.chaos [--kills N] [--short] [NAME ...]`.

Prints a row for each fault, and exits with 1 when anything does not hold. Everything stays on loopback.
"""

import sys
import time
from argparse import ArgumentParser, Namespace

from tests.benchmarks.table import machine
from tests.chaos.audit import Row, table
from tests.chaos.catalogue import FAULTS, effort_for, play

KILLS = 520
FEW = 14


def main() -> int:
    """Run as the module's docstring says; return the exit code."""
    options = _options()
    began = time.monotonic()
    rows: list[Row] = []
    for name in options.names or FAULTS:
        started = time.monotonic()
        rows.append(
            play(name, effort_for(name, options.kills or (FEW if options.short else KILLS), short=options.short))
        )
        sys.stderr.write(f"{' | '.join(rows[-1].cells())} | {time.monotonic() - started:.0f} s\n")
        sys.stderr.writelines(_told(rows[-1]))
    kills = sum(row.kills for row in rows)
    sys.stdout.write(f"{machine()}\n\n{table(rows)}\n\n{kills:,} kills in {time.monotonic() - began:,.0f} s\n")
    return 1 if any(row.wrong for row in rows) else 0


def _told(row: Row) -> list[str]:
    return [f"  DOES NOT HOLD: {sentence}\n" for sentence in row.wrong]


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*FAULTS, []], help="which faults; all by default")
    parser.add_argument("--kills", type=int, default=0, help=f"in all; {KILLS} by default, {FEW} in the short form")
    parser.add_argument("--short", action="store_true", help="each fault once or twice, only to see that it works")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
