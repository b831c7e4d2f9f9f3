"""Signal handlers that request a shutdown, and the forced exit."""

import asyncio
import logging
import os
import signal
import threading
import time

import structlog

from service.runtime.output_writer import drain_output

SHUTDOWN_TIMEOUT = 8
"""Maximum seconds from the shutdown request to the end. Platforms kill a process after ten."""

DRAIN_TIMEOUT = 6
"""Seconds of SHUTDOWN_TIMEOUT in which requests and running work may end, concurrently.

In the rest of the time cancelled work cleans up, its results are recorded and its leases are released.
"""


EXIT_GRACE = 1.0
"""Seconds that a process has to exit by itself after its work has ended or timed out."""

EXIT_FORCED = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT

log = structlog.get_logger("boomerang.runtime")


def install_signal_handlers() -> asyncio.Event:
    """Return an event that SIGTERM or SIGINT sets from now on; a second SIGINT exits the process immediately.

    A second SIGTERM has no effect, because process managers may send it twice. SIGHUP stops too, when the terminal is
    closed, unless the caller lets the process ignore it (nohup(1)).
    """
    stop = asyncio.Event()
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if interrupted:
            log.warning("second SIGINT, exiting immediately; leases will expire")
            _exit(EXIT_INTERRUPTED)
        interrupted = True
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    return stop


def force_exit(*, after: float) -> None:
    """Exit the process in `after` seconds unless it has exited by then: a task or thread of a handler may block it."""

    def wait() -> None:
        time.sleep(after)
        log.error("shutdown timed out, forcing exit")
        _exit(EXIT_FORCED)

    threading.Thread(target=wait, name="forced exit", daemon=True).start()


def _exit(status: int) -> None:
    logging.shutdown()
    drain_output()
    os._exit(status)
