"""The simulation plays seeds in a row and every seed that ever failed, and catches faults that are planted."""

import os
from dataclasses import replace

import pytest

from service.domain.task import Status
from tests.simulation.crash_points import BY_POSITION, POINTS
from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.patches import ENGINES, stand_ins
from tests.simulation.runner import result_of, results_of, run_and_check
from tests.simulation.scenario import PROVIDER_FAULTS, Scenario, TaskRequest, base_scenario_of, scenario_of

IN_A_ROW = 25
REGRESSIONS = {
    24: "the second submission of a task in doubt was refused, and that is its end",
    49: "a replay whose answer was lost was asked for again",
    58: "the lease of a dead process on a settled task runs out by itself",
    60: "a queued task past its deadline was claimed between two commits, for ever",
    61: "half an answer says nothing about a task",
    77: "a dead letter lets the next one of its lane go at once",
    123: "a callback ended a task whose submission's process had died",
    233: "a replay ran beside a later delivery of its lane",
    631: "nobody waited any more for a connection that was cut",
    707: "a doubled replay came in after the last look",
    1116: "a process was stalled for longer than a write may wait",
    5074: "a lane of dead letters on the long schedule takes weeks",
    5295: "a callback came in at the last moment of a run",
    30040: "a clock that counts microseconds, and one that counts finer",
    40270: "the upstream asked for a pause, and the question waited for its end",
    50328: "a stop while the disk was stalled broke off",
    544329292: "an old hint put off the first question",
    1137: "a claim that had waited longer than its lease was run, and claimed again beside it",
}
"""Every seed that ever failed, and what it showed."""

EXTENDED_REGRESSIONS = {
    7004: "a delivery was claimed with a second of its lease left, and again beside it",
    30043: "a faithful clock rested between its beats",
    20103: "a submission was answered long after its task had ended",
    5000714: "a question was held up by a slow network",
    5000209: "what was due by a clock that had been put on was taken for later",
    900280: "a callback told of an end that had not come yet",
    181486682: "what a dead process had in hand waited for the end of its lease",
    462045271: "hourly questions by a clock that had been put back by an hour were taken for due at once",
    450833314: "what had expired was due at the very same moment again while the upstream paused",
    539435812: "the simulated clock that rings only where something is due rested for what it had rung before",
}
"""The same of runs in their wider form."""

QUICK = ("ack_before_commit", "lost_reply_retried", "order_ignored", "poll_never_set", "token_not_checked", "no_sweep")
"""Planted faults that a few runs catch."""


def test_seeds_in_a_row_keep_every_promise() -> None:
    """Runs from BOOMERANG_TEST_SEED on keep every promise; a broken one names its seed.

    The same ones are played each time, so that the tests tell of the change at hand: `python -m tests.simulation` plays
    fresh ones.
    """
    first = int(os.environ.get("BOOMERANG_TEST_SEED", "1"))
    broken = {one.scenario.seed: one.broken for one in results_of(range(first, first + IN_A_ROW)) if one.broken}
    assert not broken, f"python -m tests.simulation --seed {next(iter(broken))}"


@pytest.mark.parametrize("seed", REGRESSIONS, ids=str)
def test_seeds_that_failed_keep_every_promise(seed: int) -> None:
    """What once went wrong in the simpler run of a seed goes right."""
    assert result_of(base_scenario_of(seed)).broken == ()


@pytest.mark.parametrize("seed", EXTENDED_REGRESSIONS, ids=str)
def test_wider_seeds_that_failed_keep_every_promise(seed: int) -> None:
    """What once went wrong goes right."""
    assert result_of(seed).broken == ()


@pytest.mark.parametrize("seed", [3, 13, 60])
def test_seed_repeats_its_run_exactly(seed: int) -> None:
    """One seed is one story, to the microsecond."""
    one, other = result_of(seed), result_of(seed)
    assert one.digest == other.digest
    assert one.digest != result_of(seed + 1).digest


def test_many_in_hand_are_given_up_in_one_order() -> None:
    """A stop that cancels several handlers cancels them in the same order each time."""
    assert len({result_of(1).digest for _ in range(12)}) == 1


@pytest.mark.parametrize("seed", [314, 370, 415])
def test_first_faithful_run_is_like_any_other(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine learns once, and what the garbage collector does when, is no part of the story."""
    monkeypatch.setattr(ENGINES, "_kept", {})
    scenario = replace(scenario_of(seed), faithful=True)
    assert len({result_of(scenario).digest for _ in range(3)}) == 1


@pytest.mark.parametrize("mutation", [one for one in MUTATIONS if one.__name__ in QUICK], ids=lambda one: one.__name__)
def test_planted_fault_is_caught(mutation: Mutation) -> None:
    """A known fault breaks a promise within a few runs."""
    assert any(result.broken for result in results_of(range(40), mutation=mutation))


def test_plain_run_settles_everything() -> None:
    """With no fault at all every wish is completed, and told to every handler."""
    scenario = Scenario(
        seed=0, task_requests=(TaskRequest(number=0, at=0.0, webhook=True), TaskRequest(number=1, at=1.0))
    )
    with stand_ins() as errors:
        result = run_and_check(scenario, errors)
    assert result.broken == ()
    assert result.statuses == {Status.COMPLETED: 2}


def test_scenarios_differ_in_every_way() -> None:
    """Over many seeds every fault, every point to crash at and every provider is drawn."""
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


def test_processes_die_at_many_places_of_the_code() -> None:
    """Deaths that count places strike at pauses, statements and commits all over the service, each kind somewhere."""
    crashed_at = {position for one in results_of(range(500, 540)) for position in one.crashed_at if position[1]}
    assert {kind for kind, _ in crashed_at} == set(BY_POSITION)
    assert len({position for _, position in crashed_at}) > 10
