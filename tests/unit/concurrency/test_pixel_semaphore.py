"""Threads that hold pixels: small pictures at once, large ones alone, clients in turn."""

from threading import Thread

import pytest

from service.concurrency.pixel_semaphore import PixelSemaphore

BRIEFLY = 0.05
"""Seconds after which a thread counts as waiting."""

TIMEOUT = 10.0
"""Seconds after which a thread that does not end fails the test."""


def holding(semaphore: PixelSemaphore, pixels: int, seen: list[int], client: str | None = None) -> Thread:
    """Return a thread that holds `pixels`, and appends them to `seen` once it does."""

    def hold() -> None:
        with semaphore.hold(pixels, client=client):
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


def test_small_pictures_never_wait_for_large_ones() -> None:
    """While a client decodes a picture of the whole total, and more wait, another client's small one is held."""
    semaphore, seen = PixelSemaphore(100, small=10, small_total=20), list[int]()
    with semaphore.hold(100, client="flood"):
        waiting = [holding(semaphore, 99, seen, "flood") for _ in range(3)]
        assert finished(holding(semaphore, 10, seen, "normal"))
        assert seen == [10]
    assert finished(*waiting)


def test_small_pictures_of_one_client_leave_pixels() -> None:
    """A client that decodes a small picture leaves enough for another client's."""
    semaphore, seen = PixelSemaphore(100, small=10, small_total=20), list[int]()
    with semaphore.hold(10, client="flood"):
        waiting = holding(semaphore, 9, seen, "flood")
        assert seen == []
        assert finished(holding(semaphore, 8, seen, "normal"))
    assert finished(waiting)
    assert seen == [8, 9]


def test_next_large_picture_is_another_clients() -> None:
    """After one picture of a flood it is the other client's turn."""
    semaphore, seen = PixelSemaphore(100), list[int]()
    with semaphore.hold(100, client="flood"):
        waiting = [holding(semaphore, 90 + number, seen, "flood") for number in range(3)]
        waiting.append(holding(semaphore, 80, seen, "normal"))
    assert finished(*waiting)
    assert seen == [80, 90, 91, 92]
