"""When to try again and when to ask again, as data: no clock and no randomness of its own.

Promise: whenever the upstream finishes, a poll follows within 30 s or a tenth of the run time, whichever is more. So no
pause is longer than 25 s or 9 % of the time since the submission; the rest is for the round trip. What was learned
places the polls better. It loosens them in two cases only. While callbacks prove reliable, a task is not asked about
before the time at which such tasks begin to end: what ends earlier than 19 of 20 did, and whose callback is lost as
well, is then noticed no later than one pause after that time. And while a loss of 1 % is ruled out by hundreds of
callbacks that came, it is not asked about before the time at which such tasks have mostly ended (19 of 20, but at most
three times the median): the first callbacks that are lost after that are noticed no later than one pause after it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Protocol

from service.domain.schedule_times import JITTER, add_seconds

FIRST_POLL = 15.0
WIDEST_GAP = 25.0
WIDEST_SHARE = 0.09
NARROWEST_GAP = 2.0
HINTED_GAP = 0.5
SECONDS_A_POLL = 17.5
"""Run time that pays for one poll: a 5 s poller asks three times as often, even with the last poll counted."""
QUICK_BUCKET = 30.0
"""Buckets whose tasks mostly end within this many seconds get one poll on credit."""
HEALTHY_LOSS, BROKEN_LOSS = 0.02, 0.5
"""Shares of lost callbacks up to which callbacks are relied on, and from which only polls are."""
PROVEN = 20
"""Past tasks without which callbacks have proved nothing."""
LOSS_RULED_OUT, UNSURE = 0.01, 0.01
"""A share of lost callbacks, and how rarely it may let as few be lost as were: then it is ruled out."""
MAX_TRUSTED_MEDIANS = 3.0
"""Medians for which a callback is waited for at most, however slow the slowest tasks are."""


class PastRun(Protocol):
    """How long one task ran, in seconds, and whether its callback came."""

    @property
    def seconds(self) -> float:
        """Return the run time."""

    @property
    def called_back(self) -> bool:
        """Return whether its callback came."""


@dataclass(frozen=True, kw_only=True)
class RunTimeEstimate:
    """Past run times of one bucket in seconds: 5th percentile, median, 95th; how many; the share of lost callbacks.

    `trusted` says that callbacks of all buckets together have ruled out a loss worth a question.
    """

    quick: float
    usual: float
    slow: float
    count: int
    lost_share: float
    trusted: bool = False


@dataclass(frozen=True, kw_only=True)
class CallbackStats:
    """Of how many past tasks, of whatever bucket, the end is known, and of how many of them no callback told it."""

    count: int
    lost: int

    @property
    def trusted(self) -> bool:
        """Whether a loss of 1 % is ruled out: with it, so few losses would be seen once in a hundred times at most.

        That takes 459 callbacks in a row, 662 with one loss among them, 838 with two.
        """
        if not 0 <= self.lost <= self.count or self.lost > LOSS_RULED_OUT * self.count:
            return False
        return _probability_of_at_most(self.count, self.lost, LOSS_RULED_OUT) <= UNSURE


def _probability_of_at_most(count: int, lost: int, share: float) -> float:
    """Return how probable at most `lost` losses among `count` are at this share (the binomial distribution)."""
    term = total = (1 - share) ** count
    for number in range(1, lost + 1):
        term *= (count - number + 1) / number * share / (1 - share)
        total += term
    return total


def estimate(run_times: Sequence[PastRun], *, trusted: bool = False) -> RunTimeEstimate | None:
    """Return what past run times of one bucket say; None when there are none that make sense."""
    sound = [run for run in run_times if math.isfinite(run.seconds) and run.seconds >= 0]
    if not sound:
        return None
    seconds = sorted(run.seconds for run in sound)
    last = len(seconds) - 1
    return RunTimeEstimate(
        quick=seconds[math.floor(last * 0.05)],
        usual=median(seconds),
        slow=seconds[math.ceil(last * 0.95)],
        count=len(seconds),
        lost_share=sum(not run.called_back for run in sound) / len(sound),
        trusted=trusted,
    )


def next_poll(
    *,
    submitted_at: datetime,
    now: datetime,
    polls: int,
    learned: RunTimeEstimate | None,
    hinted_at: datetime | None,
    poll_first: timedelta | None,
    poll_max: timedelta,
    jitter: float,
) -> datetime:
    """Return when to ask the upstream next, never before `now`.

    `now` is when the upstream last spoke, `polls` counts the questions so far. `hinted_at` is when a callback said that
    the task had ended, though the upstream does not say so yet: then questions start close together. `poll_first` fixes
    the first question, counted from the submission; `poll_max` caps every other pause. `jitter` (0 to 1) only shortens.
    """
    elapsed = max(0.0, (now - submitted_at).total_seconds())
    widest = min(poll_max.total_seconds(), _gap(elapsed, jitter))
    if hinted_at is not None:
        since = (now - hinted_at).total_seconds() if polls else 0.0  # never asked: however old the hint, ask now
        return add_seconds(now, min(widest, max(HINTED_GAP, since / 2)))
    if poll_first is not None and polls == 0:
        begun = min(submitted_at, now)  # a submission in the future is one by a clock that was put back
        return max(now, add_seconds(begun, poll_first.total_seconds()))
    if learned is not None and elapsed < (begin := _not_before(learned)):
        return add_seconds(now, min(poll_max.total_seconds(), begin - elapsed + _gap(begin, jitter)))
    if learned is not None:
        return add_seconds(now, _estimated_gap(elapsed, polls, learned, widest, jitter))
    cold = FIRST_POLL * (1 - JITTER * jitter) - elapsed
    return add_seconds(now, min(widest, cold) if polls == 0 and cold > 0 else widest)


def _gap(elapsed: float, jitter: float) -> float:
    """Return the longest pause that the promise allows after `elapsed` seconds."""
    return max(WIDEST_GAP, WIDEST_SHARE * elapsed) * (1 - JITTER * jitter)


def _not_before(learned: RunTimeEstimate) -> float:
    """Return how long after its submission a task is left to its callback; 0 where callbacks are not reliable."""
    if learned.count < PROVEN or learned.lost_share > HEALTHY_LOSS:
        return 0.0
    if not learned.trusted:
        return learned.quick
    return max(learned.quick, min(learned.slow, MAX_TRUSTED_MEDIANS * learned.usual))


def _estimated_gap(elapsed: float, polls: int, learned: RunTimeEstimate, widest: float, jitter: float) -> float:
    """Return the pause: the widest while callbacks come; where they are lost, aimed at when tasks mostly end."""
    polls = min(max(polls, 0), 10**9)
    reliance = min(1.0, max(0.0, (learned.lost_share - HEALTHY_LOSS) / (BROKEN_LOSS - HEALTHY_LOSS)))
    aimed = _aim(elapsed, polls, learned) * (1 - JITTER * jitter)
    wanted = widest + reliance * (min(aimed, widest) - widest)
    credit = 0 if learned.slow <= QUICK_BUCKET else 1
    affordable = SECONDS_A_POLL * (polls + credit) - elapsed
    return min(widest, max(wanted, affordable, NARROWEST_GAP))


def _aim(elapsed: float, polls: int, learned: RunTimeEstimate) -> float:
    """Return seconds to a little after the usual run time; once tasks may end, what saved questions allow till slow."""
    if elapsed < learned.quick:
        return learned.usual * 1.03 + 1 - elapsed
    if elapsed < learned.slow:
        return (learned.slow - elapsed) / max(1.0, learned.slow / SECONDS_A_POLL - polls)
    return math.inf
