"""The simulation runs consecutive seeds and every seed that ever failed, and detects injected faults."""

import os
from dataclasses import replace

import pytest

from service.domain.task import Status
from tests.simulation.crash_points import BY_POSITION, POINTS
from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.operation_mutations import erased_task_replayed, pause_ignored, stream_skips_an_event
from tests.simulation.patches import ENGINES, stand_ins
from tests.simulation.runner import detected, result_of, results_of, run_and_check
from tests.simulation.scenario import (
    PROVIDER_FAULTS,
    Scenario,
    TaskRequest,
    base_scenario_of,
    plain_scenario_of,
    scenario_of,
)

IN_A_ROW = 25
REGRESSIONS = {
    24: "the second submission of a task in doubt is refused, which ends the task",
    49: "a replay whose response was lost is requested again",
    58: "the lease of a dead process on a settled task expires",
    60: "a queued task past its deadline was claimed between two commits, for ever",
    61: "half a response says nothing about a task",
    77: "a dead letter releases the next delivery of its lane immediately",
    123: "a callback ends a task whose submitting process has crashed",
    233: "a replay ran beside a later delivery of its lane",
    631: "no task awaited a connection that was cut",
    707: "a repeated replay arrived after the last check",
    1116: "a process was stalled for longer than a write may wait",
    5074: "a lane of dead letters on the long schedule takes weeks",
    5295: "a callback arrived at the end of a run",
    30040: "one clock counts microseconds, another one smaller units",
    40270: "the provider requested a pause, and the poll waited for its end",
    50328: "a shutdown while the disk was stalled failed",
    544329292: "an old hint deferred the first poll",
    1137: "a claim that had waited longer than its lease was run, and claimed again beside it",
}
"""Every seed that ever failed, and the case behind it."""

EXTENDED_REGRESSIONS = {
    7004: "a delivery was claimed with a second of its lease left, and again beside it",
    30043: "a faithful scheduler paused between its times",
    20103: "a submission was answered long after its task had ended",
    5000714: "a slow network delayed a poll",
    5000209: "work due by a clock that had moved forward was scheduled later",
    900280: "a callback reported an end before it happened",
    181486682: "the work of a dead process waited for the end of its lease",
    462045271: "hourly polls by a clock that had moved back by an hour counted as due immediately",
    450833314: "an expired task was due again at the same time while the provider paused",
    539435812: "the simulated scheduler paused a job because of an earlier run",
    700000463: "a worker that was cancelled before its first step left its flush waiting without end",
    620006260: "the simulated scheduler left out the controls, which could not be read during a stall",
    620007329: "a delivery waited as long as its schedule lasts by a clock that had moved back",
}
"""The same for seeds in their extended form."""

OPERATIONS_REGRESSIONS = {
    7341: "a replay of what an endpoint had missed ended at the time of a clock that was behind",
    620000127: "the late answer of an attempt before an endpoint was enabled disabled it again",
    620007851: "the network delivered the pause of a handler a second time, after the handler was resumed",
}
"""The same for seeds with operations."""

QUICK = ("ack_before_commit", "lost_reply_retried", "order_ignored", "poll_never_set", "token_not_checked", "no_sweep")
"""Mutations that a few runs detect."""

QUICK_OPERATIONS = (stream_skips_an_event, pause_ignored, erased_task_replayed)
"""Mutations of operations that one run detects."""


def test_consecutive_seeds_violate_nothing() -> None:
    """Runs from BOOMERANG_TEST_SEED on violate no promise; a failed one names its seed.

    The same seeds are run each time, so that a failure shows the change under test: `python -m tests.simulation` runs
    fresh ones.
    """
    first = int(os.environ.get("BOOMERANG_TEST_SEED", "1"))
    broken = {one.scenario.seed: one.broken for one in results_of(range(first, first + IN_A_ROW)) if one.broken}
    assert not broken, f"python -m tests.simulation --seed {next(iter(broken))}"


@pytest.mark.parametrize("seed", REGRESSIONS, ids=str)
def test_seeds_that_failed_pass(seed: int) -> None:
    """A seed whose base scenario once failed violates nothing."""
    assert result_of(base_scenario_of(seed)).broken == ()


@pytest.mark.parametrize("seed", EXTENDED_REGRESSIONS, ids=str)
def test_extended_seeds_that_failed_pass(seed: int) -> None:
    """A seed that once failed violates nothing."""
    assert result_of(plain_scenario_of(seed)).broken == ()


@pytest.mark.parametrize("seed", OPERATIONS_REGRESSIONS, ids=str)
def test_seeds_with_operations_that_failed_pass(seed: int) -> None:
    """A seed whose operations once found a violation violates nothing."""
    scenario = scenario_of(seed)
    assert scenario.operations is not None
    assert result_of(scenario).broken == ()


@pytest.mark.parametrize("seed", [3, 13, 60])
def test_seed_repeats_its_run_exactly(seed: int) -> None:
    """One seed gives one history, equal to the microsecond."""
    one, other = result_of(seed), result_of(seed)
    assert one.digest == other.digest
    assert one.digest != result_of(seed + 1).digest


def test_running_handlers_are_canceled_in_one_order() -> None:
    """A shutdown that cancels several handlers cancels them in the same order each time."""
    assert len({result_of(1).digest for _ in range(4)}) == 1


@pytest.mark.parametrize("seed", [314, 370, 415])
def test_first_faithful_run_equals_later_ones(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the state of a new engine nor the garbage collector changes the history."""
    monkeypatch.setattr(ENGINES, "_engines", {})
    scenario = replace(plain_scenario_of(seed), faithful=True)
    assert len({result_of(scenario).digest for _ in range(3)}) == 1


@pytest.mark.parametrize("mutation", [one for one in MUTATIONS if one.__name__ in QUICK], ids=lambda one: one.__name__)
def test_injected_fault_is_detected(mutation: Mutation) -> None:
    """A known fault causes a violation within a few runs."""
    assert any(map(detected, results_of(range(40), mutation=mutation)))


OPERATED = 7105
"""A seed with operations in which every one of them is done."""


def test_operations_violate_nothing() -> None:
    """A handler is paused, tasks are erased and submitted again, dead letters replayed, the stream read with cuts."""
    scenario = scenario_of(OPERATED)
    assert scenario.operations is not None
    assert result_of(replace(scenario, operations=replace(scenario.operations, gone=True))).broken == ()


@pytest.mark.parametrize("mutation", QUICK_OPERATIONS, ids=lambda one: one.__name__)
def test_injected_fault_of_an_operation_is_detected(mutation: Mutation) -> None:
    """A known fault of what operators do causes a violation in one run that has operations."""
    assert any(map(detected, results_of([OPERATED], mutation=mutation)))


def test_plain_run_settles_everything() -> None:
    """Without faults every request is completed and delivered to every handler."""
    scenario = Scenario(
        seed=0, task_requests=(TaskRequest(number=0, at=0.0, webhook=True), TaskRequest(number=1, at=1.0))
    )
    with stand_ins() as errors:
        result = run_and_check(scenario, errors)
    assert result.broken == ()
    assert result.statuses == {Status.COMPLETED: 2}


def test_scenarios_differ_in_every_way() -> None:
    """Over many seeds every fault, every crash point and every provider is drawn."""
    drawn = [scenario_of(seed) for seed in range(2000)]
    assert {crash.point for one in drawn for crash in one.crashes} == set(POINTS)
    assert set(PROVIDER_FAULTS) <= {name for one in drawn for name in one.switches}
    assert {one.provider for one in drawn} == {"vtrix", "vidu"}
    assert {one.processes for one in drawn} == {1, 2}
    assert {len(one.task_requests) for one in drawn} == set(range(1, 7))
    assert {one.true_clocks for one in drawn} == {bool(one.full_disks) for one in drawn} == {True, False}
    assert {one.burst_share for one in drawn} == {0.0, 0.5, 1.0}
    assert {one.wake_interval for one in drawn} == {None, 10.0, 60.0}
    assert {one.settings["budget"] is None for one in drawn} == {True, False}
    operations = [one.operations for one in drawn if one.operations]
    assert {each.crash_process for each in operations} == {None, 0, 1}
    assert {each.gone for each in operations} == {True, False}


def test_processes_crash_at_many_code_positions() -> None:
    """Crashes by code position happen at pauses, statements and commits all over the service, every kind of them."""
    crashed_at = {position for one in results_of(range(500, 520)) for position in one.crashed_at if position[1]}
    assert {kind for kind, _ in crashed_at} == set(BY_POSITION)
    assert len({position for _, position in crashed_at}) > 10


def test_every_fault_can_be_injected() -> None:
    """What a fault replaces exists: a new name would end the measurement of all of them."""
    for mutation in MUTATIONS:
        with mutation():
            pass
