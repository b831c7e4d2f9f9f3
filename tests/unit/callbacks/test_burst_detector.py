"""Detection of bursts of callbacks."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from service.callbacks.limits import BURST_RATE, BurstDetector
from tests.support.task_loop import SECOND, START


def test_few_callbacks_are_no_burst() -> None:
    """Callbacks at exactly the leak rate never fill the bucket."""
    detector = BurstDetector()
    assert not any(detector.observe(START + number * SECOND / BURST_RATE) for number in range(10 * BURST_RATE))


def test_burst_ends_when_the_bucket_drains() -> None:
    """A burst begins once the bucket is full, and lasts while callbacks keep coming."""
    detector = BurstDetector()
    burst = [detector.observe(START) for _ in range(5 * BURST_RATE)]
    assert burst == [False] * BURST_RATE + [True] * (4 * BURST_RATE)
    assert detector.observe(START + SECOND / 2)
    assert not detector.observe(START + 3 * SECOND)


@given(st.lists(st.floats(-3600, 3600), max_size=50))
def test_clock_jumps_do_no_harm(jumps: list[float]) -> None:
    """Whatever the clock does, the level stays between zero and two seconds of callbacks."""
    detector, now = BurstDetector(), START
    for jump in jumps:
        now += timedelta(seconds=jump)
        detector.observe(now)
        assert 0 < detector.level <= 2 * BURST_RATE
