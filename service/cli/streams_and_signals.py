"""What the operating system gives a process that a shell or a container starts, and that Python takes for granted."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

FIRST_PROCESS = 1
EXIT_TERMINATED = 128 + signal.SIGTERM

SHOW_CURSOR = b"\x1b[?25h\n"

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


def drop_unwritable_output() -> None:
    """Drop buffered output that cannot be written, as on a full disk.

    Python would try it again at its end, print the error once more and exit with 120.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except ValueError:  # it is closed
            continue
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def end_on_sigterm_as_first_process() -> None:
    """Let SIGTERM end a process whose id is 1, as in a container: without a handler it is ignored (pid_namespaces(7)).

    A running service replaces this by its orderly shutdown.
    """
    if os.getpid() == FIRST_PROCESS and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit)


def end_in_spite_of_threads(status: int) -> None:
    """End the process now if threads are left that Python would wait for, as a database's after a second Ctrl-C."""
    if all(thread.daemon or thread is threading.main_thread() for thread in threading.enumerate()):
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads, or it is closed
            stream.flush()
    os._exit(status)


def is_interactive(out: "Console") -> bool:
    """Return whether lines of `out` can be drawn again: it is a terminal that knows how to move the cursor."""
    return out.is_terminal and not out.is_dumb_terminal and os.environ.get("TERM", "unknown") != ""


@contextmanager
def cursor_shown_at_the_end(out: "Console") -> Iterator[None]:
    """Show the cursor again if a signal ends the process inside the block, in which it is hidden.

    The signal then has its effect as before: the exit code says which one it was.
    """
    main = threading.current_thread() is threading.main_thread()
    names = ("SIGTERM", "SIGHUP", "SIGQUIT") if main and is_interactive(out) else ()
    before = {signum: signal.getsignal(signum) for name in names if (signum := getattr(signal, name, None))}

    def end(signum: int, _frame: FrameType | None) -> None:
        os.write(out.file.fileno(), SHOW_CURSOR)
        signal.signal(signum, before[signum])
        os.kill(os.getpid(), signum)

    replaced = [signum for signum, handler in before.items() if handler is not signal.SIG_IGN]
    for signum in replaced:
        signal.signal(signum, end)
    try:
        yield
    finally:
        for signum in replaced:
            signal.signal(signum, before[signum])


def _exit(_signal: int, _frame: FrameType | None) -> None:
    """End at once, as the default action does: an exception would be taken for one of a handler's import."""
    os._exit(EXIT_TERMINATED)
