"""Ports for servers of tests: no two test processes of this machine get the same one."""

import fcntl
import os
import random
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

HOST = "127.0.0.1"
PORTS = range(15_000, 32_000)
"""Below the ports that outgoing connections take: a port stays free while its server is down."""

FOLDER = Path(tempfile.gettempdir()) / f"boomerang-test-ports-{os.getuid()}"
"""Of the system, also while a test has its temporary files elsewhere: a disk with an open lock cannot be unmounted."""

_locks: list[IO[str]] = []
"""Files whose locks end with this process."""


def free_port() -> int:
    """Return an unused loopback port; no other test process gets it until this one has ended."""
    FOLDER.mkdir(exist_ok=True)
    for port in random.sample(PORTS, len(PORTS)):
        lock = (FOLDER / str(port)).open("w")
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.create_server((HOST, port)):
                _locks.append(lock)
                return port
        lock.close()
    raise RuntimeError("no port is free")
