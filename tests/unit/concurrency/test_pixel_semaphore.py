"""Threads that hold pixels: small pictures at once, large ones alone, first come, first served."""

from threading import Thread

import pytest

from service.concurrency.pixel_semaphore import PixelSemaphore

WHILE = 0.05
"""Seconds that a thread gets to do what it must not do."""

PATIENCE = 10.0
"""Seconds that a thread gets to do what it must."""


def asking(budget: PixelSemaphore, pixels: int, seen: list[int]) -> Thread:
    """Return a thread that wants so many pixels, and writes down that it got them."""

    def hold() -> None:
        with budget.hold(pixels):
            seen.append(pixels)

    thread = Thread(target=hold, daemon=True)
    thread.start()
    thread.join(WHILE)
    return thread


def finished(*threads: Thread) -> bool:
    """Return whether all of them end, in good time."""
    for thread in threads:
        thread.join(PATIENCE)
    return not any(thread.is_alive() for thread in threads)


def test_small_pictures_are_held_at_once() -> None:
    """While enough pixels are free no thread waits."""
    budget, seen = PixelSemaphore(100), list[int]()
    with budget.hold(60):
        assert finished(asking(budget, 40, seen))
    assert seen == [40]


def test_picture_that_does_not_fit_waits() -> None:
    """A picture that does not fit waits until enough pixels are free."""
    budget, seen = PixelSemaphore(100), list[int]()
    with budget.hold(60):
        waiting = asking(budget, 41, seen)
        assert seen == []
    assert finished(waiting)
    assert seen == [41]


def test_picture_above_the_total_gets_all_of_it() -> None:
    """A picture larger than the total is held alone, not refused."""
    budget, seen = PixelSemaphore(100), list[int]()
    with budget.hold(1000):
        waiting = asking(budget, 1, seen)
        assert seen == []
    assert finished(waiting)
    assert seen == [1]


def test_pixels_are_granted_first_come_first_served() -> None:
    """A small picture does not overtake a large one that waits before it."""
    budget, seen = PixelSemaphore(100), list[int]()
    with budget.hold(60):
        waiting = [asking(budget, 80, seen), asking(budget, 30, seen)]
        assert seen == []
    assert finished(*waiting)
    assert seen == [80, 30]


def test_error_in_the_block_releases_the_pixels() -> None:
    """After any error in the block its pixels are free again."""
    budget, seen = PixelSemaphore(100), list[int]()
    with pytest.raises(RuntimeError, match="decoder"), budget.hold(100):
        raise RuntimeError("decoder")
    assert finished(asking(budget, 100, seen))
    assert seen == [100]
