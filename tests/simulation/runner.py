"""Playing seeds: one, many in a row, many in several processes; and making a failing one smaller."""

import gc
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

from tests.simulation.checks import violations
from tests.simulation.mutations import Mutation
from tests.simulation.patches import Errors, stand_ins
from tests.simulation.run import simulate
from tests.simulation.scenario import Scenario, scenario_of, simpler_scenarios

MAX_REDUCTIONS = 150
GC_THRESHOLD = 50_000
"""Allocations between looks for garbage: a run makes much, and keeps little."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one run came to: the promises that it broke, its digest, its story, and how long it took in its own time.

    `crashed_at` holds the kind and the place of each death, `positions` every such place that the run would have counted.
    """

    scenario: Scenario
    broken: tuple[str, ...]
    digest: str
    log: str
    seconds: float
    statuses: Mapping[str, int] = field(default_factory=dict)
    crashed_at: tuple[tuple[str, str], ...] = ()
    positions: frozenset[tuple[str, str]] = frozenset()


def run_and_check(scenario: Scenario, errors: Errors) -> RunResult:
    """Play `scenario` inside the stand-ins and return what it came to."""
    errors.lines.clear()
    try:
        simulation = simulate(scenario)
    except Exception as error:  # noqa: BLE001 - a run that breaks off is a failing run
        return RunResult(scenario=scenario, broken=(f"broke off: {error!r}",), digest="", log="", seconds=0.0)
    try:
        broken = [*violations(simulation), *dict.fromkeys(errors.lines)]
        return RunResult(
            scenario=scenario,
            broken=tuple(broken),
            digest=simulation.history.digest.hexdigest(),
            log=simulation.history.log() if broken else "",
            seconds=simulation.loop.time(),
            crashed_at=tuple(simulation.history.crashed_at),
            positions=frozenset(simulation.history.positions),
            statuses=dict(simulation.reader.execute("SELECT status, count(*) FROM tasks GROUP BY status")),
        )
    finally:
        simulation.reader.close()


def result_of(scenario: Scenario | int) -> RunResult:
    """Return what one scenario, or the one of a seed, comes to."""
    with stand_ins() as errors:
        return run_and_check(scenario_of(scenario) if isinstance(scenario, int) else scenario, errors)


def results_of(seeds: Sequence[int], *, mutation: Mutation | None = None) -> Iterator[RunResult]:
    """Yield what each seed comes to, one after the other, with a fault planted where one is given."""
    before = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD)
    try:
        with stand_ins() as errors, mutation() if mutation else nullcontext():
            for seed in seeds:
                yield run_and_check(scenario_of(seed), errors)
    finally:
        gc.set_threshold(*before)


def in_parallel(seeds: Sequence[int], workers: int) -> Iterator[RunResult]:
    """Yield what each seed comes to, as `workers` processes get through them."""
    if workers < 2:
        yield from results_of(seeds)
        return
    context = multiprocessing.get_context("spawn")
    shares = [seeds[start : start + 25] for start in range(0, len(seeds), 25)]
    with context.Pool(workers) as pool:
        for share in pool.imap(_all_of, shares):
            yield from share


def _all_of(seeds: Sequence[int]) -> list[RunResult]:
    return list(results_of(seeds))


def first_detections(mutations: Sequence[Mutation], seeds: Sequence[int], workers: int) -> Iterator[tuple[int, str]]:
    """Yield for each fault, in their order, how many seeds were played and the first broken promise, "" for none."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(max(1, workers)) as pool:
        yield from pool.imap(partial(_detect, seeds), mutations)


def _detect(seeds: Sequence[int], mutation: Mutation) -> tuple[int, str]:
    for runs, result in enumerate(results_of(seeds, mutation=mutation), start=1):
        if result.broken:
            return runs, result.broken[0]
    return len(seeds), ""


def minimized(result: RunResult, *, mutation: Mutation | None = None) -> RunResult:
    """Return a simpler run that breaks a promise as `result` does: fewer tasks, fewer faults."""
    budget = MAX_REDUCTIONS
    kinds = _kinds(result)
    with stand_ins() as errors, mutation() if mutation else nullcontext():
        simpler: RunResult | None = result
        while simpler:
            result, simpler = simpler, None
            for scenario in simpler_scenarios(result.scenario):
                budget -= 1
                tried = run_and_check(scenario, errors)
                if _kinds(tried) & kinds:
                    simpler = tried
                    break
                if budget < 1:
                    return result
    return result


def _kinds(result: RunResult) -> set[str]:
    return {told.partition(":")[0] for told in result.broken}
