"""Limits the bytes that large bodies hold in memory."""

from service.concurrency.fair_semaphore import FairSemaphore


class ByteSemaphore(FairSemaphore):
    """A semaphore that counts bytes: `total` bytes for all holders together.

    A body larger than `total` waits until nothing else is held, and is then held alone.
    """
