"""What the operating system gives a process that a shell or a container starts, and that Python takes for granted."""

import os
import signal
import sys
from types import FrameType

FIRST_PROCESS = 1
EXIT_TERMINATED = 128 + signal.SIGTERM

STANDARD_STREAMS = (("stdin", 0), ("stdout", 1), ("stderr", 2))


def open_missing_streams() -> None:
    """Open the standard streams that the caller has closed (`2>&-`), so that no file or connection gets their numbers.

    A library that writes to standard error would otherwise write into the database.
    """
    for name, descriptor in STANDARD_STREAMS:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            mode = "r" if descriptor == 0 else "w"
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", errors="backslashreplace"))


def end_on_sigterm_as_first_process() -> None:
    """Let SIGTERM end a process whose id is 1, as in a container: without a handler it is ignored (pid_namespaces(7)).

    A running service replaces this by its orderly shutdown.
    """
    if os.getpid() == FIRST_PROCESS and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit)


def _exit(_signal: int, _frame: FrameType | None) -> None:
    """End at once, as the default action does: an exception would be taken for one of a handler's import."""
    os._exit(EXIT_TERMINATED)
