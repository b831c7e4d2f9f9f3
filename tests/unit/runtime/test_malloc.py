"""Large blocks of memory go back to the system once they are freed."""

import subprocess
import sys

import pytest

PROGRAM = """
import threading
from service.runtime.malloc import return_large_blocks_to_os

def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

assert return_large_blocks_to_os()
before = resident()
for _ in range(8):
    blocks = [bytes([1]) * 15_000_000 for _ in range(4)]
    pins = [bytes([1]) * 100_000 for _ in blocks]  # allocated after the large ones, as what a request leaves behind
    thread = threading.Thread(target=lambda: [bytes([1]) * 15_000_000 for _ in range(4)])
    thread.start()
    thread.join()
    del blocks
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is asked to")
def test_freed_media_leave_the_process() -> None:
    """After rounds of large blocks the process is hardly larger than before (kilobytes; one block is 15,000)."""
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our own program
    assert int(done.stdout) < 10_000
