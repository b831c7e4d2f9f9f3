"""Run schemathesis against the service: `python -m tests.openapi [--examples N] [--seed S] [--phases P]`."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.openapi.runner import PHASES, run


def main() -> int:
    """Run once, print the findings, and return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m tests.openapi", description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="requests of each kind for an operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--phases", default=PHASES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        result = asyncio.run(run(Path(home), examples=options.examples, seed=options.seed, phases=options.phases))
    sys.stdout.write(result.output + "\n".join(result.faults))
    return 1 if result.code or result.faults else 0


if __name__ == "__main__":
    sys.exit(main())
