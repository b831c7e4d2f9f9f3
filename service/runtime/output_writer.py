"""Write the output of the process in a thread, so that a reader that stalls costs lines and never blocks the caller.

A pipe that nobody reads is full after 64 KiB (pipe(7)), and the next write waits. Containers, log collectors and a
terminal that is stopped with Ctrl-S do this. Only the standard streams of the process have such readers.
"""

import atexit
import os
import select
import stat
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Condition, Thread, get_ident
from typing import Any, TextIO, cast

MAX_WAITING = 4 * 1024 * 1024
"""Characters that may wait for a reader; further text is dropped and counted."""

MAX_WRITE = 65_536
"""Bytes of one write to anything but a pipe."""

ATOMIC_WRITE = getattr(select, "PIPE_BUF", 512)
"""Bytes that a pipe takes as one piece (pipe(7)): the lines of processes that share a pipe are not mixed."""

DRAIN_TIMEOUT = 1.0
"""Maximum seconds that the end of the process waits for the last lines."""

STALLED_AFTER = 0.5
"""Seconds of one write after which the end of the process does not wait for the reader any more."""

RETRY_PAUSE = 0.05
"""Seconds between two tries to write to a stream that another process has made non-blocking."""

MAX_PARTIAL = 65_536
"""Characters of a line without an end that are kept; a longer one is written in pieces."""

STANDARD_DESCRIPTORS = (1, 2)

Notice = Callable[[int], str]
"""Returns the text that reports a number of dropped lines."""


class OutputWriter:
    """Writes text to the file descriptor `descriptor`, in order; `put` never waits.

    `dropped` counts the lines that were lost: `full` while the reader stalled, `failed` where a write failed.
    """

    def __init__(self, descriptor: int, *, encoding: str = "utf-8", max_waiting: int = MAX_WAITING) -> None:
        self.dropped: Counter[str] = Counter()
        self.notice: Notice | None = None
        self.forked = False
        self._descriptor = descriptor
        self._encoding = encoding
        self._max_waiting = max_waiting
        self._chunk = ATOMIC_WRITE if _is_pipe(descriptor) else MAX_WRITE
        self._reset()

    def _reset(self) -> None:
        # reentrant, because a garbage collection inside the lock may log
        self._changed = Condition()
        self._texts: list[str] = []
        self._waiting = 0
        self._unreported = 0
        self._writing_since: float | None = None
        self._thread: Thread | None = None

    def put(self, text: str) -> None:
        """Write whole lines soon, or drop them if too much waits."""
        with self._changed:
            if self._texts and self._waiting + len(text) > self._max_waiting:
                self._count(text, "full")
                return
            self._texts.append(text)
            self._waiting += len(text)
            if self._thread is None or not self._thread.is_alive():
                self._thread = Thread(target=self._run, name="output writer", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # the interpreter ends, or the system has no more threads
                    self._thread = None
                    self._count("".join(self._take()), "failed")
            self._changed.notify_all()

    def drain(self, seconds: float = DRAIN_TIMEOUT) -> bool:
        """Wait up to `seconds` until everything is written, less if the reader stalls; return whether it is."""
        end = time.monotonic() + seconds
        with self._changed:
            while self._texts or self._writing_since is not None:
                now = time.monotonic()
                limit = min(end, (self._writing_since or now) + STALLED_AFTER)
                if now >= limit:
                    return False
                self._changed.wait(limit - now)
        return True

    def after_fork(self) -> None:
        """Drop the thread and the text of the parent process, which writes it."""
        self.forked = True
        self._reset()

    def _count(self, text: str, reason: str) -> None:
        lines = text.count("\n") or 1
        self.dropped[reason] += lines
        self._unreported += lines

    def _take(self) -> list[str]:
        texts, self._texts, self._waiting = self._texts, [], 0
        return texts

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._texts:
                    self._changed.wait()
                self._writing_since = time.monotonic()
                # the queue was full while these texts waited, so what was dropped came after them
                texts, unreported = self._take(), self._unreported
            for chunk in chunks("".join(texts).encode(self._encoding, "backslashreplace"), self._chunk):
                if lost := self._write(chunk):
                    with self._changed:
                        self._count(lost.decode(self._encoding, "replace"), "failed")
            self._report(unreported)
            with self._changed:
                self._writing_since = None
                self._changed.notify_all()

    def _report(self, lines: int) -> None:
        if lines and self.notice and not self._write(self.notice(lines).encode(self._encoding, "backslashreplace")):
            with self._changed:
                self._unreported -= lines

    def _write(self, data: bytes) -> bytes:
        """Return what could not be written: the disk is full, or nobody can read it any more."""
        left = memoryview(data)
        while left:
            self._writing_since = time.monotonic()
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                time.sleep(RETRY_PAUSE)
            except OSError:
                break
        return bytes(left)


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    """Yield `data` in pieces of whole lines of at most `size` bytes; a longer line is one piece."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + size) + 1 or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end


def _is_pipe(descriptor: int) -> bool:
    with suppress(OSError):
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    return False


# ── the standard streams of this process ─────────────────────────────────────

_writers: dict[int, OutputWriter] = {}


def writer_for(stream: TextIO) -> OutputWriter | None:
    """Return the writer of a standard stream of this process, None for any other stream."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    if descriptor not in STANDARD_DESCRIPTORS:
        return None
    if descriptor not in _writers:
        encoding = stream.encoding or "utf-8"
        _writers[descriptor] = OutputWriter(descriptor, encoding=encoding, max_waiting=MAX_WAITING)
    return _writers[descriptor]


def drain_output() -> None:
    """Wait for the last output of the process, at most DRAIN_TIMEOUT for each stream."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, QueuedStream):
            stream.flush_all()
    for writer in _writers.values():
        writer.drain()


def dropped_lines() -> Counter[str]:
    """Return how many lines of this process were lost, by reason."""
    return sum((writer.dropped for writer in _writers.values()), Counter())


class QueuedStream:
    """Replaces a standard stream: what is written to it goes through the writer; all else is that of the stream.

    `print` writes a text and the end of its line apart, so each thread has its own incomplete line.
    """

    def __init__(self, stream: TextIO, writer: OutputWriter) -> None:
        self._stream = stream
        self._writer = writer
        self._partial: dict[int, str] = {}  # by thread, which alone changes its entry

    def write(self, text: str) -> int:
        """Write complete lines; keep the rest until its line ends, or until `flush`."""
        lines, end, rest = (self._partial.pop(get_ident(), "") + text).rpartition("\n")
        if end:
            self._writer.put(f"{lines}\n")
        if len(rest) > MAX_PARTIAL:
            self._writer.put(rest)
        elif rest:
            self._partial[get_ident()] = rest
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write each text."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Hand the thread's incomplete line to the writer; a forked process may end right after it: wait shortly."""
        if text := self._partial.pop(get_ident(), ""):
            self._writer.put(text)
        if self._writer.forked:
            self._writer.drain()

    def flush_all(self) -> None:
        """Hand the incomplete lines of all threads to the writer."""
        while self._partial:
            with suppress(KeyError):  # its thread was faster
                self._writer.put(self._partial.popitem()[1])

    def after_fork(self) -> None:
        """Drop the incomplete lines of the parent process, which writes them."""
        self._partial.clear()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def queue_standard_streams() -> None:
    """Let everything that this process prints go through the writers: tracebacks, warnings, `print` of handlers."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, QueuedStream) and stream is not None and (writer := writer_for(stream)):
            stream.flush()
            setattr(sys, name, cast("TextIO", QueuedStream(stream, writer)))


def _after_fork() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, QueuedStream):
            stream.after_fork()
    for writer in _writers.values():
        writer.after_fork()


atexit.register(drain_output)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
