"""The command `boomerang` in a process that is measured: `python -m tests.benchmarks.child [OPTIONS] COMMAND ...`.

`--batch 1` makes each commit hold one callback, for comparison; `--profile` writes what cProfile saw until SIGTERM.
"""

import cProfile
import sys
from argparse import ArgumentParser
from contextlib import nullcontext, suppress

from service.callbacks import receiver as receive
from service.cli import main
from service.tasks import recorder


def run() -> None:
    """Run the command with what is left of the arguments."""
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--batch", type=int, default=recorder.BATCH)
    parser.add_argument("--profile")
    chosen, rest = parser.parse_known_args()
    recorder.BATCH = receive.BATCH = chosen.batch
    sys.argv = ["boomerang", *rest]
    profile = cProfile.Profile() if chosen.profile else None
    with profile or nullcontext(), suppress(SystemExit):
        main()
    if profile:
        profile.dump_stats(chosen.profile)


if __name__ == "__main__":
    run()
