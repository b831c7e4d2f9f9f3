"""Threads that hold pixels: small pictures at once, large ones alone, first come, first served."""

from threading import Thread

import pytest

from service.concurrency.pixel_semaphore import PixelSemaphore

BRIEFLY = 0.05
"""Seconds after which a thread counts as waiting."""

TIMEOUT = 10.0
"""Seconds after which a thread that does not end fails the test."""


def holding(semaphore: PixelSemaphore, pixels: int, seen: list[int]) -> Thread:
    """Return a thread that holds `pixels`, and appends them to `seen` once it does."""

    def hold() -> None:
        with semaphore.hold(pixels):
            seen.append(pixels)

    thread = Thread(target=hold, daemon=True)
    thread.start()
    thread.join(BRIEFLY)
    return thread


def finished(*threads: Thread) -> bool:
    """Return whether all threads end in time."""
    for thread in threads:
        thread.join(TIMEOUT)
    return not any(thread.is_alive() for thread in threads)


def test_small_pictures_are_held_at_once() -> None:
    """While enough pixels are free no thread waits."""
    semaphore, seen = PixelSemaphore(100), list[int]()
    with semaphore.hold(60):
        assert finished(holding(semaphore, 40, seen))
    assert seen == [40]


def test_picture_that_does_not_fit_waits() -> None:
    """A picture that does not fit waits until enough pixels are free."""
    semaphore, seen = PixelSemaphore(100), list[int]()
    with semaphore.hold(60):
        waiting = holding(semaphore, 41, seen)
        assert seen == []
    assert finished(waiting)
    assert seen == [41]


def test_picture_above_the_total_gets_all_of_it() -> None:
    """A picture larger than the total is held alone, not refused."""
    semaphore, seen = PixelSemaphore(100), list[int]()
    with semaphore.hold(1000):
        waiting = holding(semaphore, 1, seen)
        assert seen == []
    assert finished(waiting)
    assert seen == [1]


def test_pixels_are_granted_first_come_first_served() -> None:
    """A small picture does not overtake a large one that waits before it."""
    semaphore, seen = PixelSemaphore(100), list[int]()
    with semaphore.hold(60):
        waiting = [holding(semaphore, 80, seen), holding(semaphore, 30, seen)]
        assert seen == []
    assert finished(*waiting)
    assert seen == [80, 30]


def test_error_in_the_block_releases_the_pixels() -> None:
    """After any error in the block its pixels are free again."""
    semaphore, seen = PixelSemaphore(100), list[int]()
    with pytest.raises(RuntimeError, match="decoder"), semaphore.hold(100):
        raise RuntimeError("decoder")
    assert finished(holding(semaphore, 100, seen))
    assert seen == [100]
