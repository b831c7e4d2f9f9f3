"""How a process is asked to end, and made to."""

import asyncio
import logging
import os
import signal
import threading
import time

import structlog

EXIT_GRACE = 1.0
"""Seconds in which a process may still end by itself when its work is over, or should be."""

EXIT_FORCED = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT

log = structlog.get_logger("boomerang")


def install_signal_handlers() -> asyncio.Event:
    """Return what is set by SIGTERM or SIGINT from now on; a second SIGINT, an impatient Ctrl-C, ends the process.

    A second SIGTERM does nothing: whatever passes signals on may send it twice.
    """
    stop = asyncio.Event()
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if interrupted:
            log.warning("ended at once: leases of what was in hand run out by themselves")
            _exit(EXIT_INTERRUPTED)
        interrupted = True
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    return stop


def force_exit(*, after: float) -> None:
    """End the process in `after` seconds, unless it has ended by then: a task or thread of a handler may hold it."""

    def wait() -> None:
        time.sleep(after)
        log.error("ended by force: something goes on that took no notice of the stop")
        _exit(EXIT_FORCED)

    threading.Thread(target=wait, name="end by force", daemon=True).start()


def _exit(status: int) -> None:
    logging.shutdown()
    os._exit(status)
