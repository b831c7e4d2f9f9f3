"""Running seeds, one by one or in several processes, and minimizing a failed run."""

import gc
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

from tests.simulation.checks import final_violations, violations
from tests.simulation.mutations import Mutation
from tests.simulation.patches import Errors, stand_ins
from tests.simulation.run import simulate
from tests.simulation.scenario import Scenario, scenario_of, simpler_scenarios

MAX_REDUCTIONS = 150
GC_THRESHOLD = 50_000
"""Allocations between garbage collections: a run allocates much and keeps little."""

MISFITS = ("TypeError", "AttributeError", "NameError")
"""Errors of an injected fault that replaces code by the parameters or names of before."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The result of one run: violations, digest, log, and duration in virtual seconds.

    `crashed_at` holds kind and code position of each crash, `positions` every position that was counted.
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
    """Run `scenario` inside `stand_ins()` and check it."""
    errors.lines.clear()
    try:
        simulation = simulate(scenario, violations)
    except Exception as error:  # noqa: BLE001 - a run that raises is a failed run
        return RunResult(scenario=scenario, broken=(f"failed unexpectedly: {error!r}",), digest="", log="", seconds=0.0)
    try:
        broken = [*final_violations(simulation), *dict.fromkeys(errors.lines)]
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
    """Return the result of a scenario, or of the scenario of a seed."""
    with stand_ins() as errors:
        return run_and_check(scenario_of(scenario) if isinstance(scenario, int) else scenario, errors)


def results_of(seeds: Sequence[int], *, mutation: Mutation | None = None) -> Iterator[RunResult]:
    """Yield the result of each seed in turn, with `mutation` injected if given."""
    before = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD)
    try:
        with stand_ins() as errors, mutation() if mutation else nullcontext():
            for seed in seeds:
                yield run_and_check(scenario_of(seed), errors)
    finally:
        gc.set_threshold(*before)


def in_parallel(seeds: Sequence[int], workers: int) -> Iterator[RunResult]:
    """Yield the result of each seed, run by `workers` processes."""
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
    """Yield for each mutation, in order, the number of runs and the first violation, "" for none."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(max(1, workers)) as pool:
        yield from pool.imap(partial(_detect, seeds), mutations)


def detected(result: RunResult) -> list[str]:
    """Return the violations in a run with an injected fault, without errors of one that no longer fits the code."""
    return [one for one in result.broken if not any(f"{name}(" in one for name in MISFITS)]


def _detect(seeds: Sequence[int], mutation: Mutation) -> tuple[int, str]:
    for runs, result in enumerate(results_of(seeds, mutation=mutation), start=1):
        if found := detected(result):
            return runs, found[0]
    return len(seeds), ""


def minimized(result: RunResult, *, mutation: Mutation | None = None) -> RunResult:
    """Return a simpler run with a violation of the same kind: fewer tasks, fewer faults."""
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
    return {violation.partition(":")[0] for violation in result.broken}
