"""A named pipe as the output of a process, whose reader stalls and reads again."""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

MIN_SIZE = 4096
"""Bytes of the smallest pipe (fcntl(2), F_SETPIPE_SZ)."""


class StalledReader:
    """Opens a small pipe at `path`, which a process writes to, and reads nothing until it is asked to."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.text = b""
        # open in both directions, so that no open waits and no write fails while the process is down
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, MIN_SIZE)

    def command(self, command: Sequence[str]) -> list[str]:
        """Return `command` with its output to the pipe; the shell is replaced by it."""
        return ["/bin/sh", "-c", 'exec "$@" >"$0" 2>&1', str(self.path), *command]

    @property
    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError("the pipe is closed")
        return self._descriptor

    def read(self) -> bytes:
        """Read all that is in the pipe; return everything that was read so far."""
        try:
            while part := os.read(self._open, MIN_SIZE):
                self.text += part
        except BlockingIOError:
            pass
        return self.text

    def close(self) -> None:
        """Close the pipe: writes fail from now on."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None
