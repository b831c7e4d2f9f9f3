"""Properties of the schedules for every run time, every history of callbacks, and every count."""

import math
from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.poll_schedule import CallbackStats, RunTimeEstimate, next_poll
from service.domain.retry_schedule import next_attempt, next_submission

NOW = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)

shares = st.floats(0, 1)
run_times = st.floats(0, 1e6)


def _polls(finish: float, expected: RunTimeEstimate | None, jitter: float, trip: float) -> list[float]:
    """Return the times of the polls of a task that runs for `finish` seconds without a callback, up to its end."""
    poll_times: list[float] = []
    elapsed = 0.0
    while not poll_times or poll_times[-1] < finish:
        at = next_poll(
            submitted_at=NOW,
            now=NOW + timedelta(seconds=elapsed),
            polls=len(poll_times),
            expected=expected,
            hinted_at=None,
            poll_first=None,
            poll_max=timedelta(hours=1),
            jitter=jitter,
        )
        poll_times.append((at - NOW).total_seconds())
        elapsed = poll_times[-1] + trip
    return poll_times


estimates = st.none() | st.builds(
    RunTimeEstimate, p5=run_times, median=run_times, p95=run_times, count=st.integers(1, 10**6), lost_share=shares
)


@given(st.floats(0, 20_000), estimates, shares, st.floats(0, 2))
@example(3.0, RunTimeEstimate(p5=300, median=300, p95=300, count=500, lost_share=0.03), 0.0, 1.0)
@example(3.0, RunTimeEstimate(p5=300, median=300, p95=300, count=19, lost_share=0), 0.0, 1.0)
@example(300.0, RunTimeEstimate(p5=300, median=300, p95=300, count=500, lost_share=0), 0.0, 1.0)
def test_every_end_is_polled_in_time(
    finish: float, expected: RunTimeEstimate | None, jitter: float, trip: float
) -> None:
    """A poll follows an end in 30 s or a tenth of its time; early ends count as quick while callbacks are reliable."""
    reliable = expected is not None and expected.count >= 20 and expected.lost_share <= 0.02
    counted = max(finish, expected.p5) if expected and reliable else finish
    assert _polls(finish, expected, jitter, trip)[-1] - counted <= max(30.0, 0.1 * counted)


@given(st.floats(0, 20_000), st.lists(run_times, min_size=3, max_size=3), shares, st.floats(0, 2), shares)
@example(61.0, [30.0, 60.0, 1_500.0], 0.0, 0.0, 1.0)
@example(61.0, [30.0, 60.0, 110.0], 0.0, 0.0, 1.0)
def test_lost_callback_is_replaced_by_a_poll(
    finish: float, about: list[float], lost: float, trip: float, jitter: float
) -> None:
    """While callbacks are reliable, a lost one is polled after the 95th percentile or three medians, and no later."""
    quick, usual, slow = sorted(about)
    expected = RunTimeEstimate(p5=quick, median=usual, p95=slow, count=200, lost_share=lost * 0.02, trusted=True)
    counted = max(finish, min(slow, 3 * usual))
    assert _polls(finish, expected, jitter, trip)[-1] - counted <= max(30.0, 0.1 * counted)


@given(st.floats(1, 1_000), st.lists(st.floats(0.5, 3), min_size=3, max_size=3), shares)
def test_reliable_callback_needs_one_poll(usual: float, about: list[float], jitter: float) -> None:
    """While callbacks are reliable, a task of usual run time is polled once, to confirm its end."""
    quick, _, slow = sorted(about)
    expected = RunTimeEstimate(p5=quick, median=usual, p95=slow * usual, count=20, lost_share=0, trusted=True)
    assert len(_polls(min(slow * usual, 3 * usual), expected, jitter, 0.0)) == 1


@given(st.integers(0, 5_000), st.integers(-1, 60))
def test_reliability_needs_hundreds_of_callbacks(count: int, lost: int) -> None:
    """Callbacks with a loss of 1 % count as reliable in at most one of a hundred cases."""
    seen = range(max(lost, 0) + 1)
    chance = sum(math.comb(count, number) * 0.01**number * 0.99 ** (count - number) for number in seen)
    trusted = 0 <= lost <= count and lost <= count / 100 and chance <= 0.01
    assert CallbackStats(count=count, lost=lost).trusted is trusted


def test_few_callbacks_are_not_reliable() -> None:
    """458 callbacks without a loss are not reliable, 459 are, and each loss requires about two hundred more."""
    for lost, needed in ((0, 459), (1, 662), (2, 838)):
        assert [CallbackStats(count=count, lost=lost).trusted for count in (needed - 1, needed)] == [False, True]


@given(st.floats(1, 3_000), st.floats(0, 20), shares)
def test_no_poll_before_the_end_while_callbacks_are_reliable(run: float, spread: float, jitter: float) -> None:
    """While callbacks arrive and run times stay usual, no task is polled before it has ended."""
    expected = RunTimeEstimate(p5=run, median=run, p95=run, count=20, lost_share=0.02)
    assert len(_polls(run + spread, expected, jitter, 0.0)) == 1


@given(st.floats(60, 5000), shares, shares, st.lists(st.floats(0.7, 1.5), min_size=3, max_size=3))
def test_polls_are_a_third_of_a_fixed_interval(run: float, lost: float, jitter: float, about: list[float]) -> None:
    """A task of a minute or more in its usual bucket is polled less than a third as often as every 5 s."""
    quick, usual, slow = sorted(share * run for share in about)
    expected = RunTimeEstimate(p5=quick, median=usual, p95=slow, count=100, lost_share=lost)
    before_the_end = [at for at in _polls(run, expected, jitter, 0.0) if at <= run]
    assert len(before_the_end) < run / 5 / 3


@given(
    polls=st.integers(0, 10**30),
    elapsed=st.floats(0, 1e9),
    hinted=st.none() | st.floats(-1e6, 1e9),
    expected=estimates,
    jitter=shares,
    first=st.none() | st.floats(0, 1e9),
)
def test_next_poll_is_never_in_the_past(
    *,
    polls: int,
    elapsed: float,
    hinted: float | None,
    expected: RunTimeEstimate | None,
    jitter: float,
    first: float | None,
) -> None:
    """No count, age or clock makes a poll overflow, precede now, or exceed the cap."""
    at = next_poll(
        submitted_at=NOW - timedelta(seconds=elapsed),
        now=NOW,
        polls=polls,
        expected=expected,
        hinted_at=None if hinted is None else NOW - timedelta(seconds=hinted),
        poll_first=None if first is None else timedelta(seconds=first),
        poll_max=timedelta(minutes=5),
        jitter=jitter,
    )
    assert at >= NOW
    assert at - NOW <= timedelta(minutes=5) or (first is not None and polls == 0)


@given(st.integers(0, 10**30), st.none() | st.integers(0, 10**30), st.lists(st.timedeltas(timedelta())), shares)
def test_attempts_never_overflow(attempt: int, limit: int | None, schedule: list[timedelta], jitter: float) -> None:
    """Any count and any delay give a time from now on, or no further attempt."""
    at = next_attempt(schedule, attempt, limit, NOW, jitter)
    assert at is None or at >= NOW


@given(st.integers(0, 10**30), st.none() | st.timedeltas(), shares)
def test_submissions_never_overflow(tries: int, retry_after: timedelta | None, jitter: float) -> None:
    """Any count and any Retry-After give a time from one second to a little over an hour from now."""
    pause = next_submission(tries, NOW, jitter, retry_after) - NOW
    assert timedelta(seconds=1) <= pause <= timedelta(minutes=66)


def test_submissions_are_spread() -> None:
    """Tasks that were refused together are not all sent again at the same moment; a requested pause is spread too."""
    assert [next_submission(0, NOW, jitter, None) - NOW for jitter in (0.0, 1.0)] == [SECOND, 1.1 * SECOND]
    assert next_submission(0, NOW, 1.0, 10 * SECOND) - NOW == 11 * SECOND
