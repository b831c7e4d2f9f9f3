"""Faults injected into real processes: `python -m tests.chaos [--kills N] [--short] [NAME ...]`.

Prints a row for each fault and exits with 1 if the records differ. All connections stay on loopback.
"""

import sys
import time
from argparse import ArgumentParser, Namespace

from tests.benchmarks.table import machine
from tests.chaos.audit import Row, table
from tests.chaos.catalogue import FAULTS, effort_for, run_fault

KILLS = 520
SHORT_KILLS = 14


def main() -> int:
    """Run as the module's docstring says; return the exit code."""
    options = _options()
    began = time.monotonic()
    rows: list[Row] = []
    for name in options.names or FAULTS:
        started = time.monotonic()
        rows.append(
            run_fault(
                name, effort_for(name, options.kills or (SHORT_KILLS if options.short else KILLS), short=options.short)
            )
        )
        sys.stderr.write(f"{' | '.join(rows[-1].cells())} | {time.monotonic() - started:.0f} s\n")
        sys.stderr.writelines(_violations(rows[-1]))
    kills = sum(row.kills for row in rows)
    sys.stdout.write(f"{machine()}\n\n{table(rows)}\n\n{kills:,} kills in {time.monotonic() - began:,.0f} s\n")
    return 1 if any(row.wrong for row in rows) else 0


def _violations(row: Row) -> list[str]:
    return [f"  violation: {sentence}\n" for sentence in row.wrong]


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*FAULTS, []], help="faults to inject; all by default")
    parser.add_argument(
        "--kills", type=int, default=0, help=f"kills in total; {KILLS} by default, {SHORT_KILLS} in the short form"
    )
    parser.add_argument("--short", action="store_true", help="inject each fault once or twice")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
