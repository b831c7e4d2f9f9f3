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
from tests.simulation.run import play
from tests.simulation.scenario import Scenario, scenario_of, smaller

MOST_SHRINKS = 150
RARELY = 50_000
"""Allocations between looks for garbage: a run makes much, and keeps little."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one run came to: the promises that it broke, its digest, its story, and how long it took in its own time.

    `died` holds the kind and the place of each death, `places` every such place that the run would have counted.
    """

    scenario: Scenario
    broken: tuple[str, ...]
    digest: str
    story: str
    seconds: float
    statuses: Mapping[str, int] = field(default_factory=dict)
    died: tuple[tuple[str, str], ...] = ()
    places: frozenset[tuple[str, str]] = frozenset()


def judged(scenario: Scenario, errors: Errors) -> Verdict:
    """Play `scenario` inside the stand-ins and return what it came to."""
    errors.lines.clear()
    try:
        world = play(scenario)
    except Exception as error:  # noqa: BLE001 - a run that breaks off is a failing run
        return Verdict(scenario=scenario, broken=(f"broke off: {error!r}",), digest="", story="", seconds=0.0)
    try:
        broken = [*violations(world), *dict.fromkeys(errors.lines)]
        return Verdict(
            scenario=scenario,
            broken=tuple(broken),
            digest=world.history.digest.hexdigest(),
            story=world.history.story() if broken else "",
            seconds=world.loop.time(),
            died=tuple(world.history.died),
            places=frozenset(world.history.places),
            statuses=dict(world.reader.execute("SELECT status, count(*) FROM tasks GROUP BY status")),
        )
    finally:
        world.reader.close()


def verdict_of(scenario: Scenario | int) -> Verdict:
    """Return what one scenario, or the one of a seed, comes to."""
    with stand_ins() as errors:
        return judged(scenario_of(scenario) if isinstance(scenario, int) else scenario, errors)


def verdicts(seeds: Sequence[int], *, mutation: Mutation | None = None) -> Iterator[Verdict]:
    """Yield what each seed comes to, one after the other, with a fault planted where one is given."""
    before = gc.get_threshold()
    gc.set_threshold(RARELY)
    try:
        with stand_ins() as errors, mutation() if mutation else nullcontext():
            for seed in seeds:
                yield judged(scenario_of(seed), errors)
    finally:
        gc.set_threshold(*before)


def in_parallel(seeds: Sequence[int], workers: int) -> Iterator[Verdict]:
    """Yield what each seed comes to, as `workers` processes get through them."""
    if workers < 2:
        yield from verdicts(seeds)
        return
    context = multiprocessing.get_context("spawn")
    shares = [seeds[start : start + 25] for start in range(0, len(seeds), 25)]
    with context.Pool(workers) as pool:
        for share in pool.imap(_all_of, shares):
            yield from share


def _all_of(seeds: Sequence[int]) -> list[Verdict]:
    return list(verdicts(seeds))


def first_caught(mutations: Sequence[Mutation], seeds: Sequence[int], workers: int) -> Iterator[tuple[int, str]]:
    """Yield for each fault, in their order, how many seeds were played and the first broken promise, "" for none."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(max(1, workers)) as pool:
        yield from pool.imap(partial(_caught, seeds), mutations)


def _caught(seeds: Sequence[int], mutation: Mutation) -> tuple[int, str]:
    for runs, verdict in enumerate(verdicts(seeds, mutation=mutation), start=1):
        if verdict.broken:
            return runs, verdict.broken[0]
    return len(seeds), ""


def shrunk(verdict: Verdict, *, mutation: Mutation | None = None) -> Verdict:
    """Return a simpler run that breaks a promise as `verdict` does: fewer tasks, fewer faults."""
    budget = MOST_SHRINKS
    kinds = _kinds(verdict)
    with stand_ins() as errors, mutation() if mutation else nullcontext():
        simpler: Verdict | None = verdict
        while simpler:
            verdict, simpler = simpler, None
            for scenario in smaller(verdict.scenario):
                budget -= 1
                tried = judged(scenario, errors)
                if _kinds(tried) & kinds:
                    simpler = tried
                    break
                if budget < 1:
                    return verdict
    return verdict


def _kinds(verdict: Verdict) -> set[str]:
    return {told.partition(":")[0] for told in verdict.broken}
