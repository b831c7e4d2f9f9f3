"""Pauses before attempts, submissions and polls."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.poll_schedule import RunTimeEstimate, estimate, next_poll
from service.domain.retry_schedule import next_attempt, next_submission

NOW = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
SECONDS = [timedelta(seconds=pause) for pause in (0, 5, 30)]
HEALTHY = RunTimeEstimate(p5=50, median=60, p95=80, count=200, lost_share=0.0)
LOSSY = RunTimeEstimate(p5=50, median=60, p95=80, count=200, lost_share=1.0)


def second(at: datetime | None) -> float | None:
    """Return the seconds from now to `at`."""
    return None if at is None else round((at - NOW).total_seconds(), 3)


@pytest.mark.parametrize(("attempt", "pause"), [(0, 0), (1, 5), (2, 30), (3, None), (10**30, None)])
def test_each_entry_is_the_pause_before_an_attempt(attempt: int, pause: float | None) -> None:
    """The schedule is used entry by entry, and ends with it."""
    assert second(next_attempt(SECONDS, attempt, None, NOW, 0)) == pause


@pytest.mark.parametrize(
    ("attempt", "limit", "pause"), [(1, 1, None), (1, 2, 5), (3, 5, 30), (4, 5, 30), (5, 5, None), (0, 0, None)]
)
def test_limit_shortens_or_lengthens_the_schedule(attempt: int, limit: int, pause: float | None) -> None:
    """A handler's own number of attempts counts; past the schedule its last pause repeats."""
    assert second(next_attempt(SECONDS, attempt, limit, NOW, 0)) == pause


def test_empty_schedule_has_no_attempt() -> None:
    """An empty schedule ends at once."""
    assert next_attempt([], 0, 5, NOW, 0) is None


def test_jitter_adds_at_most_a_tenth() -> None:
    """Attempts spread by up to 10 %, and an immediate one stays immediate."""
    assert second(next_attempt(SECONDS, 2, None, NOW, 1.0)) == 33
    assert second(next_attempt(SECONDS, 0, None, NOW, 1.0)) == 0


@pytest.mark.parametrize(("tries", "pause"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (7, 60), (10**9, 60)])
def test_unsent_submissions_wait_longer_each_time(tries: int, pause: float) -> None:
    """The pause doubles to a minute and never overflows."""
    assert second(next_submission(tries, NOW, 0, None)) == pause


@pytest.mark.parametrize(
    ("retry_after", "pause"), [(timedelta(seconds=20), 20), (timedelta(seconds=-5), 1), (timedelta(days=999), 3600)]
)
def test_retry_after_is_respected_up_to_an_hour(retry_after: timedelta, pause: float) -> None:
    """Retry-After lengthens the pause, up to an hour."""
    assert second(next_submission(0, NOW, 0, retry_after)) == pause


@dataclass(frozen=True)
class Run:
    """A past run."""

    seconds: float
    called_back: bool = True


def test_no_valid_run_times_give_no_estimate() -> None:
    """Neither an empty list nor invalid values give an estimate."""
    assert estimate([]) is None
    assert estimate([Run(float("nan")), Run(float("inf")), Run(-1)]) is None


def test_estimate_has_percentiles_and_the_lost_share() -> None:
    """The 5th, 50th and 95th percentiles, and the share of lost callbacks."""
    runs = [Run(seconds, called_back=seconds % 4 != 0) for seconds in range(101)]
    assert estimate(runs) == RunTimeEstimate(p5=5, median=50, p95=95, count=101, lost_share=26 / 101)
    assert estimate([Run(7)]) == RunTimeEstimate(p5=7, median=7, p95=7, count=1, lost_share=0)


def poll(
    elapsed: float = 0,
    *,
    polls: int = 0,
    expected: RunTimeEstimate | None = None,
    hinted: float | None = None,
    first: float | None = None,
    cap: float = 300,
    jitter: float = 0,
) -> float | None:
    """Return how many seconds after `elapsed` the next poll is."""
    at = next_poll(
        submitted_at=NOW - timedelta(seconds=elapsed),
        now=NOW,
        polls=polls,
        expected=expected,
        hinted_at=None if hinted is None else NOW - timedelta(seconds=hinted),
        poll_first=None if first is None else timedelta(seconds=first),
        poll_max=timedelta(seconds=cap),
        jitter=jitter,
    )
    return second(at)


def test_first_polls_without_an_estimate() -> None:
    """Without an estimate the first poll is after 15 s, the next ones 25 s apart."""
    assert (poll(), poll(10), poll(15, polls=1), poll(20)) == (15, 5, 25, 25)


def test_pauses_grow_with_the_run_time() -> None:
    """Past five minutes the pause is 9 % of the time since the submission, up to the cap."""
    assert (poll(1000, polls=9), poll(2000, polls=9), poll(10_000, polls=9)) == (90, 180, 300)
    assert poll(10_000, polls=9, cap=3600) == 900


def test_first_poll_can_be_set() -> None:
    """`poll_first` counts from the submission, and applies to the first poll only."""
    assert (poll(0, first=90), poll(60, first=90), poll(100, first=90), poll(90, polls=1, first=90)) == (90, 30, 0, 25)


def test_submission_in_the_future_is_polled_in_time() -> None:
    """A submission time an hour ahead does not delay the first poll by an hour."""
    assert (poll(-3600, first=90), poll(-3600)) == (90, 15)


def test_hint_makes_polls_frequent_and_then_rarer() -> None:
    """After a callback reported an unconfirmed end, polls follow quickly, then at half of the time since."""
    assert [poll(60, polls=1, hinted=since) for since in (-3, 0, 1, 4, 20, 100)] == [0.5, 0.5, 0.5, 2, 10, 25]


def test_old_hint_does_not_delay_the_first_poll() -> None:
    """If a callback reported the end long before the reply gave the id, the task is polled at once."""
    assert [poll(60, polls=0, hinted=since) for since in (0, 4, 100)] == [0.5, 0.5, 0.5]


def test_healthy_callbacks_are_relied_on() -> None:
    """While callbacks come, no poll is made before tasks begin to end, and then with the longest pauses."""
    assert (poll(0, expected=HEALTHY), poll(20, expected=HEALTHY)) == (HEALTHY.p5 + 25, HEALTHY.p5 + 5)
    assert [poll(at, polls=polls, expected=HEALTHY) for at, polls in ((75, 1), (100, 2), (125, 3))] == [25] * 3


def test_few_callbacks_prove_nothing_yet() -> None:
    """Callbacks are relied on after twenty tasks, not after the first one."""
    assert poll(0, expected=replace(HEALTHY, count=19)) == 25


def test_lost_callbacks_aim_polls_at_the_median() -> None:
    """If callbacks are lost, a poll before any end is shortly after the median run time, if that is near."""
    assert (poll(25, polls=1, expected=LOSSY), poll(45, polls=2, expected=LOSSY)) == (25, 17.8)


def test_lost_callbacks_spend_saved_polls_when_tasks_end() -> None:
    """Once tasks may end, pauses divide the polls saved at one in 17.5 s until the 95th percentile."""
    assert poll(50, polls=2, expected=LOSSY) == pytest.approx(30 / (80 / 17.5 - 2), abs=0.001)
    assert poll(70, polls=2, expected=LOSSY) == pytest.approx(10 / (80 / 17.5 - 2), abs=0.001)


def test_lost_callbacks_do_not_raise_the_poll_rate() -> None:
    """However short the pauses should be, there is at most one poll in 17.5 s overall."""
    assert poll(65, polls=4, expected=LOSSY) == 22.5
    assert poll(60, polls=40, expected=LOSSY) == 25


def test_partly_lost_callbacks_are_in_between() -> None:
    """The more callbacks are lost, the shorter the pauses."""
    some = RunTimeEstimate(p5=50, median=60, p95=80, count=200, lost_share=0.26)
    pauses = [poll(70, polls=2, expected=expected) or 0 for expected in (LOSSY, some, HEALTHY)]
    assert pauses[1] == pytest.approx((pauses[0] + pauses[2]) / 2, abs=0.001)


def test_short_tasks_are_polled_early() -> None:
    """If callbacks are lost, a bucket of tasks that take seconds is polled after its median."""
    quick = RunTimeEstimate(p5=5, median=8, p95=12, count=50, lost_share=1.0)
    assert poll(0, expected=quick) == 9.24


def test_jitter_only_shortens() -> None:
    """Jitter makes a poll earlier by up to a tenth, never later."""
    assert (poll(jitter=1.0), poll(15, polls=1, jitter=1.0)) == (13.5, 22.5)


def test_clock_that_moved_backwards_does_no_harm() -> None:
    """A submission in the future counts as just sent."""
    assert poll(-3600) == 15
