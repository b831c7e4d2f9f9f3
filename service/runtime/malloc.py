"""Configure glibc to return the memory of large media to the operating system."""

import ctypes
import sys

M_MMAP_THRESHOLD = -3  # mallopt(3)
LARGE_BLOCK = 256 * 1024


def return_large_blocks_to_os() -> bool:
    """Make glibc map each block of 256 KiB or more separately, for the whole process; return whether that succeeded.

    By default, glibc raises this limit to up to 32 MiB once a large block is freed, and keeps later freed blocks: tens
    of megabytes for each thread that ever held the media of a request. Other allocators are not changed.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK) == 1
