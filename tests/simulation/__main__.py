"""`python -m tests.simulation`: run seeds or mutations, and print the violations found."""

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
    """Return 0 when no run violates a promise and every injected fault is detected, else 1."""
    options = _options()
    if options.seed is not None:
        return _run_one(options.seed)
    first = options.start if options.start is not None else random.SystemRandom().randrange(10**9)
    if options.mutations:
        return _mutations(range(first, first + MAX_RUNS_PER_MUTATION), options.workers)
    return _run_many(range(first, first + options.seeds), options.workers, options.rare)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="number of runs")
    parser.add_argument("--from", dest="start", type=int, help="the first seed; random by default")
    parser.add_argument("--seed", type=int, help="repeat one run and print its log")
    parser.add_argument(
        "--mutations", action="store_true", help="inject known faults and count the runs to detect each"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="number of processes")
    parser.add_argument("--rare", type=int, default=0, help="number of failed runs that still exit with 0")
    return parser.parse_args()


def _run_one(seed: int) -> int:
    result = result_of(seed)
    _print(f"seed {seed}\n{result.scenario.described()}\n{result.log}")
    _print(f"digest {result.digest[:16]}, {result.seconds:.0f} s of virtual time")
    _print("\n".join(result.broken) or "no violation")
    return 1 if result.broken else 0


def _run_many(seeds: Sequence[int], workers: int, rare: int) -> int:
    _print(f"from seed {seeds[0]}; again: python -m tests.simulation --seeds {len(seeds)} --from {seeds[0]}")
    began, runs, virtual, failed, crashes = time.monotonic(), 0, 0.0, [], CrashCounter()
    for result in in_parallel(seeds, workers):
        runs, virtual = runs + 1, virtual + result.seconds
        crashes.count(result)
        if result.broken:
            failed.append(result)
            _print(f"seed {result.scenario.seed}: {result.broken[0]}")
            _print(f"  again: python -m tests.simulation --seed {result.scenario.seed}")
    seconds = time.monotonic() - began
    _print(f"{'runs':<12}{'failed':<12}{'seconds':<12}{'per run':<12}virtual time")
    _print(f"{runs:<12}{len(failed):<12}{seconds:<12.1f}{seconds / max(1, runs):<12.3f}{virtual / 3600:.1f} h")
    _print(f"{_processor_seconds() / max(1, runs):.3f} processor seconds per run; {crashes.summary()}")
    if failed:
        _print_minimized(failed[0])
    return 1 if len(failed) > rare else 0


def _processor_seconds() -> float:
    """Return the processor time of this process and of its ended workers."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class CrashCounter:
    """Counts crashes and the code positions where they happen."""

    def __init__(self) -> None:
        self._crashes = 0
        self._crashed_at: set[tuple[str, str]] = set()
        self._passed: set[tuple[str, str]] = set()

    def count(self, result: RunResult) -> None:
        """Add the crashes of one run."""
        self._crashes += len(result.crashed_at)
        self._crashed_at.update(one for one in result.crashed_at if one[1])
        self._passed.update(result.positions)

    def summary(self) -> str:
        """Return the number of crashes, and for each kind the crashed code positions out of those passed."""
        crashed_at, passed = (Counter(kind for kind, _ in positions) for positions in (self._crashed_at, self._passed))
        counts = [f"{kind} {crashed_at[kind]} of {passed[kind]}" for kind in BY_POSITION]
        return f"{self._crashes} crashes; code positions crashed of those passed: {', '.join(counts)}"


def _print_minimized(result: RunResult) -> None:
    _print(f"\nseed {result.scenario.seed}, minimized; the full run: --seed {result.scenario.seed}")
    small = minimized(result)
    _print(f"{small.scenario.described()}\n{small.log}\n" + "\n".join(small.broken))


def _mutations(seeds: Sequence[int], workers: int) -> int:
    _print(f"{'injected fault':<40}{'runs':<8}detected by")
    detected = 0
    for mutation, (runs, broken) in zip(MUTATIONS, first_detections(MUTATIONS, seeds, workers), strict=True):
        detected += bool(broken)
        _print(f"{mutation.__name__:<40}{runs if broken else '-':<8}{broken[:110] or f'MISSED in {runs} runs'}")
    _print(f"{detected} of {len(MUTATIONS)} detected, first seed {seeds[0]}")
    return 1 if detected < len(MUTATIONS) else 0


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
