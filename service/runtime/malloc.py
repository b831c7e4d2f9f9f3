"""What freed memory becomes: large media must go back to the system, not stay with the process."""

import ctypes
import sys

M_MMAP_THRESHOLD = -3  # mallopt(3)
LARGE_BLOCK = 256 * 1024


def return_large_blocks_to_os() -> bool:
    """Have glibc map each block of 256 KiB and more by itself, for the whole process; return whether it does.

    Left alone, glibc raises that bound up to 32 MiB as soon as the first large block is freed, and keeps what later
    ones leave behind: tens of megabytes for each thread that ever held a request's media. Other systems' allocators
    are left as they are.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK) == 1
