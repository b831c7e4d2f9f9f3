"""`python -m tests.openapi [--examples N] [--seed S] [--phases P]`: the long form."""

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.openapi.runner import PHASES, play


def main() -> int:
    """Play once, print what was found, and return 1 when anything was."""
    reader = argparse.ArgumentParser(prog="python -m tests.openapi", description=__doc__)
    reader.add_argument("--examples", type=int, default=200, help="requests of each kind for an operation")
    reader.add_argument("--seed", type=int, default=1)
    reader.add_argument("--phases", default=PHASES)
    asked = reader.parse_args()
    with tempfile.TemporaryDirectory() as home:
        played = asyncio.run(play(Path(home), examples=asked.examples, seed=asked.seed, phases=asked.phases))
    sys.stdout.write(played.said + "\n".join(played.faults))
    return 1 if played.code or played.faults else 0


if __name__ == "__main__":
    sys.exit(main())
