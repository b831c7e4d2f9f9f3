"""Large blocks of memory return to the operating system when they are freed."""

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
    pins = [bytes([1]) * 100_000 for _ in blocks]  # allocated after the large ones, like what remains of a request
    thread = threading.Thread(target=lambda: [bytes([1]) * 15_000_000 for _ in range(4)])
    thread.start()
    thread.join()
    del blocks
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is configured")
def test_freed_media_return_to_the_system() -> None:
    """After several large blocks the process is hardly larger than before (kilobytes; one block is 15,000)."""
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - a constant program
    assert int(done.stdout) < 10_000
