"""`python -m tests.simulation`: play seeds, plant known faults, and print what came of it."""

import argparse
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tests.simulation.crash_points import BY_POSITION
from tests.simulation.mutations import MUTATIONS
from tests.simulation.runner import RunResult, first_detections, in_parallel, minimized, result_of

MAX_RUNS_PER_MUTATION = 400


def main() -> int:
    """Return 0 when every promise was kept, and every planted fault was caught; else 1."""
    options = _options()
    if options.seed is not None:
        return _run_one(options.seed)
    first = options.start if options.start is not None else random.SystemRandom().randrange(10**9)
    if options.mutations:
        return _mutations(range(first, first + MAX_RUNS_PER_MUTATION), options.workers)
    return _run_many(range(first, first + options.seeds), options.workers, options.rare)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many runs to play")
    parser.add_argument("--from", dest="start", type=int, help="the first seed; a fresh one without it")
    parser.add_argument("--seed", type=int, help="play one run again, and print its story")
    parser.add_argument("--mutations", action="store_true", help="plant known faults, and count the runs to catch each")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that play")
    parser.add_argument("--rare", type=int, default=0, help="how many broken runs are told without failing the command")
    return parser.parse_args()


def _run_one(seed: int) -> int:
    result = result_of(seed)
    _print(f"seed {seed}\n{result.scenario.described()}\n{result.log}")
    _print(f"digest {result.digest[:16]}, {result.seconds:.0f} s of its own time")
    _print("\n".join(result.broken) or "every promise was kept")
    return 1 if result.broken else 0


def _run_many(seeds: Sequence[int], workers: int, rare: int) -> int:
    _print(f"from seed {seeds[0]}; again: python -m tests.simulation --seeds {len(seeds)} --from {seeds[0]}")
    began, played, virtual, failed, crashes = time.monotonic(), 0, 0.0, [], CrashCounter()
    for result in in_parallel(seeds, workers):
        played, virtual = played + 1, virtual + result.seconds
        crashes.count(result)
        if result.broken:
            failed.append(result)
            _print(f"seed {result.scenario.seed}: {result.broken[0]}")
            _print(f"  again: python -m tests.simulation --seed {result.scenario.seed}")
    seconds = time.monotonic() - began
    _print(f"{'runs':<12}{'broken':<12}{'seconds':<12}{'a run':<12}virtual")
    _print(f"{played:<12}{len(failed):<12}{seconds:<12.1f}{seconds / max(1, played):<12.3f}{virtual / 3600:.1f} h")
    _print(f"{_processor_seconds() / max(1, played):.3f} processor seconds a run; {crashes.summary()}")
    if failed:
        _print_minimized(failed[0])
    return 1 if len(failed) > rare else 0


def _processor_seconds() -> float:
    """Return what this process and its workers, which have ended, have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class CrashCounter:
    """Counts how often processes died, and at how many places of the code."""

    def __init__(self) -> None:
        self._crashes = 0
        self._crashed_at: set[tuple[str, str]] = set()
        self._passed: set[tuple[str, str]] = set()

    def count(self, result: RunResult) -> None:
        """Count those of one run."""
        self._crashes += len(result.crashed_at)
        self._crashed_at.update(one for one in result.crashed_at if one[1])
        self._passed.update(result.positions)

    def summary(self) -> str:
        """Return a sentence about them: for each kind, places where a process died, of those that were passed."""
        crashed_at, passed = (Counter(kind for kind, _ in positions) for positions in (self._crashed_at, self._passed))
        counts = [f"{kind} {crashed_at[kind]} of {passed[kind]}" for kind in BY_POSITION]
        return f"{self._crashes} deaths; at places of the code, of those passed: {', '.join(counts)}"


def _print_minimized(result: RunResult) -> None:
    _print(f"\nseed {result.scenario.seed}, made smaller; to see it whole: --seed {result.scenario.seed}")
    small = minimized(result)
    _print(f"{small.scenario.described()}\n{small.log}\n" + "\n".join(small.broken))


def _mutations(seeds: Sequence[int], workers: int) -> int:
    _print(f"{'planted fault':<40}{'runs':<8}caught by")
    caught = 0
    for mutation, (runs, broken) in zip(MUTATIONS, first_detections(MUTATIONS, seeds, workers), strict=True):
        caught += bool(broken)
        _print(f"{mutation.__name__:<40}{runs if broken else '-':<8}{broken[:110] or f'MISSED in {runs} runs'}")
    _print(f"{caught} of {len(MUTATIONS)} caught, first seed {seeds[0]}")
    return 1 if caught < len(MUTATIONS) else 0


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
