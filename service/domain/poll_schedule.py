"""When to poll a task next. Only computes: no clock and no randomness of its own.

Guarantee: whenever a task ends at the provider, a poll follows within 30 s or a tenth of its run time, whichever is
longer. So no pause is longer than 25 s or 9 % of the time since the submission; the rest is for the round trip.
Estimates of run times place the polls better. They loosen the guarantee in two cases only:

- While callbacks prove reliable, a task is not polled before the time at which such tasks begin to end. A task that
  ends before 19 of 20 others did, and whose callback is lost as well, is noticed at most one pause after that time.
- While hundreds of received callbacks rule out a loss of 1 %, a task is not polled before the time at which such tasks
  have mostly ended: 19 of 20, but at most three times the median. The first callbacks that are lost after that are
  noticed at most one pause after that time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Protocol

from service.domain.schedule_times import JITTER, add_seconds

FIRST_POLL = 15.0
"""Seconds from the submission to the first poll while no estimate exists."""
MAX_GAP = 25.0
"""Longest pause in seconds that the guarantee allows for short run times."""
MAX_GAP_SHARE = 0.09
"""Longest pause that the guarantee allows, as a share of the time since the submission."""
MIN_GAP = 2.0
"""Shortest pause in seconds between polls that aim at the usual end."""
HINTED_GAP = 0.5
"""Shortest pause in seconds between polls after a callback reported the end."""
SECONDS_PER_POLL = 17.5
"""Run time that pays for one poll: a 5 s poller polls three times as often, even with the last poll counted."""
SHORT_RUN = 30.0
"""Seconds: a bucket whose tasks mostly end within this time gets one poll on credit."""
HEALTHY_LOSS, BROKEN_LOSS = 0.02, 0.5
"""Shares of lost callbacks up to which only callbacks are relied on, and from which only polls are."""
MIN_PROVEN_TASKS = 20
"""Past tasks below which callbacks have proved nothing."""
RULED_OUT_LOSS, SIGNIFICANCE = 0.01, 0.01
"""A share of lost callbacks, and the probability of seeing so few losses with it below which it is ruled out."""
MAX_TRUSTED_MEDIANS = 3.0
"""Longest wait for a callback, in medians, however slow the slowest tasks are."""


class PastRun(Protocol):
    """The run time of one task in seconds, and whether its callback arrived."""

    @property
    def seconds(self) -> float:
        """The run time."""

    @property
    def called_back(self) -> bool:
        """Whether its callback arrived."""


@dataclass(frozen=True, kw_only=True)
class RunTimeEstimate:
    """Run times of one bucket in seconds: 5th percentile, median, 95th; the number of tasks; share of lost callbacks.

    `trusted` is true if the callbacks of all buckets together rule out a loss that justifies a poll.
    """

    p5: float
    median: float
    p95: float
    count: int
    lost_share: float
    trusted: bool = False


@dataclass(frozen=True, kw_only=True)
class CallbackStats:
    """The number of past tasks of all buckets with a known end, and of those whose end no callback reported."""

    count: int
    lost: int

    @property
    def trusted(self) -> bool:
        """Whether a loss of 1 % is ruled out: with it, so few losses occur once in a hundred times at most.

        That takes 459 callbacks in a row, 662 with one loss among them, 838 with two.
        """
        if not 0 <= self.lost <= self.count or self.lost > RULED_OUT_LOSS * self.count:
            return False
        return _probability_of_at_most(self.count, self.lost, RULED_OUT_LOSS) <= SIGNIFICANCE


def _probability_of_at_most(count: int, lost: int, share: float) -> float:
    """Return the probability of at most `lost` losses among `count` at this share (the binomial distribution)."""
    term = total = (1 - share) ** count
    for number in range(1, lost + 1):
        term *= (count - number + 1) / number * share / (1 - share)
        total += term
    return total


def estimate(run_times: Sequence[PastRun], *, trusted: bool = False) -> RunTimeEstimate | None:
    """Return the estimate for the past run times of one bucket; None if none of them is valid."""
    valid = [run for run in run_times if math.isfinite(run.seconds) and run.seconds >= 0]
    if not valid:
        return None
    seconds = sorted(run.seconds for run in valid)
    last = len(seconds) - 1
    return RunTimeEstimate(
        p5=seconds[math.floor(last * 0.05)],
        median=median(seconds),
        p95=seconds[math.ceil(last * 0.95)],
        count=len(seconds),
        lost_share=sum(not run.called_back for run in valid) / len(valid),
        trusted=trusted,
    )


def next_poll(
    *,
    submitted_at: datetime,
    now: datetime,
    polls: int,
    expected: RunTimeEstimate | None,
    hinted_at: datetime | None,
    poll_first: timedelta | None,
    poll_max: timedelta,
    jitter: float,
) -> datetime:
    """Return when to poll next, never before `now`.

    `now` is the time of the last fact from the provider, `polls` counts the polls. `hinted_at` is when a callback
    reported the end, while polls do not confirm it yet: polls start close together then. `poll_first` sets the first
    poll, counted from the submission; `poll_max` caps every other pause. `jitter` (0 to 1) only shortens.
    """
    elapsed = max(0.0, (now - submitted_at).total_seconds())
    max_pause = min(poll_max.total_seconds(), _max_gap(elapsed, jitter))
    if hinted_at is not None:
        since_hint = (now - hinted_at).total_seconds() if polls else 0.0  # never polled: poll now, however old the hint
        return add_seconds(now, min(max_pause, max(HINTED_GAP, since_hint / 2)))
    if poll_first is not None and polls == 0:
        start = min(submitted_at, now)  # a submission in the future precedes a clock that moved backwards
        return max(now, add_seconds(start, poll_first.total_seconds()))
    if expected is not None and elapsed < (begin := _not_before(expected)):
        return add_seconds(now, min(poll_max.total_seconds(), begin - elapsed + _max_gap(begin, jitter)))
    if expected is not None:
        return add_seconds(now, _estimated_gap(elapsed, polls, expected, max_pause, jitter))
    until_first = FIRST_POLL * (1 - JITTER * jitter) - elapsed
    return add_seconds(now, min(max_pause, until_first) if polls == 0 and until_first > 0 else max_pause)


def _max_gap(elapsed: float, jitter: float) -> float:
    """Return the maximum pause that the guarantee allows after `elapsed` seconds."""
    return max(MAX_GAP, MAX_GAP_SHARE * elapsed) * (1 - JITTER * jitter)


def _not_before(expected: RunTimeEstimate) -> float:
    """Return how long after its submission a task waits for its callback alone; 0 if callbacks are not reliable."""
    if expected.count < MIN_PROVEN_TASKS or expected.lost_share > HEALTHY_LOSS:
        return 0.0
    if not expected.trusted:
        return expected.p5
    return max(expected.p5, min(expected.p95, MAX_TRUSTED_MEDIANS * expected.median))


def _estimated_gap(elapsed: float, polls: int, expected: RunTimeEstimate, max_pause: float, jitter: float) -> float:
    """Return the pause: the maximum while callbacks come; if they are lost, aimed at the usual end of tasks."""
    polls = min(max(polls, 0), 10**9)
    reliance = min(1.0, max(0.0, (expected.lost_share - HEALTHY_LOSS) / (BROKEN_LOSS - HEALTHY_LOSS)))
    aimed = _aimed_gap(elapsed, polls, expected) * (1 - JITTER * jitter)
    wanted = max_pause + reliance * (min(aimed, max_pause) - max_pause)
    credit = 0 if expected.p95 <= SHORT_RUN else 1
    affordable = SECONDS_PER_POLL * (polls + credit) - elapsed
    return min(max_pause, max(wanted, affordable, MIN_GAP))


def _aimed_gap(elapsed: float, polls: int, expected: RunTimeEstimate) -> float:
    """Return seconds until shortly after the median; once tasks may end, what saved polls allow until p95."""
    if elapsed < expected.p5:
        return expected.median * 1.03 + 1 - elapsed
    if elapsed < expected.p95:
        return (expected.p95 - elapsed) / max(1.0, expected.p95 / SECONDS_PER_POLL - polls)
    return math.inf
