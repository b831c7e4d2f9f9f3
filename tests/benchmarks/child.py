"""The command `boomerang` in a process that is measured: `python -m tests.benchmarks.child [OPTIONS] COMMAND ...`.

`--batch` sets the maximum of items in one commit of the recorder and the receiver. Its default and the 256 that the
measures pass are the value of the service itself; only `--batch 1`, for comparison, is not. `--profile` writes
cProfile's statistics at SIGTERM, in processor time of the event loop's thread, or into a file `*.txt` the shares of
functions, which are sampled.
"""

import cProfile
import sys
import time
from argparse import ArgumentParser
from contextlib import nullcontext, suppress
from pathlib import Path

from service.callbacks import receiver as receive
from service.cli import main
from service.tasks import recorder
from tests.benchmarks.sampler import Sampler


def run() -> None:
    """Run the command with the remaining arguments."""
    parser = ArgumentParser(add_help=False)
    parser.add_argument("--batch", type=int, default=recorder.BATCH)
    parser.add_argument("--profile")
    options, rest = parser.parse_known_args()
    recorder.BATCH = receive.BATCH = options.batch
    sys.argv = ["boomerang", *rest]
    sampled = bool(options.profile) and options.profile.endswith(".txt")
    profile = cProfile.Profile(time.thread_time) if options.profile and not sampled else None
    with Sampler(Path(options.profile)) if sampled else profile or nullcontext(), suppress(SystemExit):
        main()
    if profile:
        profile.dump_stats(options.profile)


if __name__ == "__main__":
    run()
