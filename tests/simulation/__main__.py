"""`python -m tests.simulation`: play seeds, plant known faults, and print what came of it."""

import argparse
import os
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tests.simulation.crash_points import BY_PLACE
from tests.simulation.mutations import MUTATIONS
from tests.simulation.runner import Verdict, first_caught, in_parallel, shrunk, verdict_of

MOST_FOR_A_MUTATION = 400


def main() -> int:
    """Return 0 when every promise was kept, and every planted fault was caught; else 1."""
    options = _options()
    if options.seed is not None:
        return _one(options.seed)
    first = options.start if options.start is not None else random.SystemRandom().randrange(10**9)
    if options.mutations:
        return _mutations(range(first, first + MOST_FOR_A_MUTATION), options.workers)
    return _many(range(first, first + options.seeds), options.workers, options.rare)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many runs to play")
    parser.add_argument("--from", dest="start", type=int, help="the first seed; a fresh one without it")
    parser.add_argument("--seed", type=int, help="play one run again, and print its story")
    parser.add_argument("--mutations", action="store_true", help="plant known faults, and count the runs to catch each")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that play")
    parser.add_argument("--rare", type=int, default=0, help="how many broken runs are told without failing the command")
    return parser.parse_args()


def _one(seed: int) -> int:
    verdict = verdict_of(seed)
    _say(f"seed {seed}\n{verdict.scenario.described()}\n{verdict.story}")
    _say(f"digest {verdict.digest[:16]}, {verdict.seconds:.0f} s of its own time")
    _say("\n".join(verdict.broken) or "every promise was kept")
    return 1 if verdict.broken else 0


def _many(seeds: Sequence[int], workers: int, rare: int) -> int:
    _say(f"from seed {seeds[0]}; again: python -m tests.simulation --seeds {len(seeds)} --from {seeds[0]}")
    began, played, virtual, failed, deaths = time.monotonic(), 0, 0.0, [], Deaths()
    for verdict in in_parallel(seeds, workers):
        played, virtual = played + 1, virtual + verdict.seconds
        deaths.count(verdict)
        if verdict.broken:
            failed.append(verdict)
            _say(f"seed {verdict.scenario.seed}: {verdict.broken[0]}")
            _say(f"  again: python -m tests.simulation --seed {verdict.scenario.seed}")
    seconds = time.monotonic() - began
    _say(f"{'runs':<12}{'broken':<12}{'seconds':<12}{'a run':<12}virtual")
    _say(f"{played:<12}{len(failed):<12}{seconds:<12.1f}{seconds / max(1, played):<12.3f}{virtual / 3600:.1f} h")
    _say(f"{_processor_seconds() / max(1, played):.3f} processor seconds a run; {deaths.told()}")
    if failed:
        _tell(failed[0])
    return 1 if len(failed) > rare else 0


def _processor_seconds() -> float:
    """Return what this process and its workers, which have ended, have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class Deaths:
    """Counts how often processes died, and at how many places of the code."""

    def __init__(self) -> None:
        self._deaths = 0
        self._died: set[tuple[str, str]] = set()
        self._passed: set[tuple[str, str]] = set()

    def count(self, verdict: Verdict) -> None:
        """Count those of one run."""
        self._deaths += len(verdict.died)
        self._died.update(one for one in verdict.died if one[1])
        self._passed.update(verdict.places)

    def told(self) -> str:
        """Return a sentence about them: for each kind, places where a process died, of those that were passed."""
        died, passed = (Counter(kind for kind, _ in places) for places in (self._died, self._passed))
        counts = [f"{kind} {died[kind]} of {passed[kind]}" for kind in BY_PLACE]
        return f"{self._deaths} deaths; at places of the code, of those passed: {', '.join(counts)}"


def _tell(verdict: Verdict) -> None:
    _say(f"\nseed {verdict.scenario.seed}, made smaller; to see it whole: --seed {verdict.scenario.seed}")
    small = shrunk(verdict)
    _say(f"{small.scenario.described()}\n{small.story}\n" + "\n".join(small.broken))


def _mutations(seeds: Sequence[int], workers: int) -> int:
    _say(f"{'planted fault':<40}{'runs':<8}caught by")
    caught = 0
    for mutation, (runs, broken) in zip(MUTATIONS, first_caught(MUTATIONS, seeds, workers), strict=True):
        caught += bool(broken)
        _say(f"{mutation.__name__:<40}{runs if broken else '-':<8}{broken[:110] or f'MISSED in {runs} runs'}")
    _say(f"{caught} of {len(MUTATIONS)} caught, first seed {seeds[0]}")
    return 1 if caught < len(MUTATIONS) else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
