"""Output is written by a thread: a reader that stalls costs lines, which are counted, and blocks nobody."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest

from service.runtime.output_writer import ATOMIC_WRITE, OutputWriter, QueuedStream, chunks, writer_for

TIMEOUT = 30.0


@dataclass
class Pipe:
    """A pipe and a writer for it."""

    reading: int
    writing: int
    writer: OutputWriter

    def fill(self) -> int:
        """Write until the pipe is full; return the number of bytes."""
        os.set_blocking(self.writing, False)
        count = 0
        try:
            while True:
                count += os.write(self.writing, b"." * 4096)
        except BlockingIOError:
            os.set_blocking(self.writing, True)
            return count

    def read(self, count: int) -> bytes:
        """Read exactly `count` bytes."""
        found = b""
        while len(found) < count:
            found += os.read(self.reading, count - len(found))
        return found


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Yield a pipe whose writer keeps at most 100 characters; its reader goes away after the test."""
    reading, writing = os.pipe()
    yield Pipe(reading, writing, OutputWriter(writing, max_waiting=100))
    os.close(reading)


def wait_for_thread(pipe: Pipe) -> None:
    """Wait until the thread has taken what waits."""
    end = time.monotonic() + TIMEOUT
    while pipe.writer._texts and time.monotonic() < end:
        time.sleep(0.001)


def test_texts_are_written_in_order(pipe: Pipe) -> None:
    """What is handed over from several calls arrives as it was, and `drain` waits for it."""
    for number in range(20):
        pipe.writer.put(f"{number}\n")
        assert pipe.writer.drain(TIMEOUT)
    assert pipe.read(50) == b"".join(b"%d\n" % number for number in range(20))


def test_full_pipe_costs_lines_and_the_count_is_written(pipe: Pipe) -> None:
    """Nothing waits for the reader; when it reads again, the lost lines are reported where they are missing."""
    pipe.writer.notice = lambda lines: f"lost {lines}\n"
    size = pipe.fill()
    pipe.writer.put("first\n")
    wait_for_thread(pipe)
    pipe.writer.put("x" * 94 + "\n")
    pipe.writer.put("too long\nfor two lines\n")
    pipe.writer.put("nor this one\n")
    assert pipe.writer.dropped == {"full": 3}
    pipe.read(size)
    expected = b"first\n" + b"x" * 94 + b"\nlost 3\n"
    assert pipe.read(len(expected)) == expected
    assert pipe.writer.drain(TIMEOUT)
    pipe.writer.put("again\n")
    assert pipe.read(6) == b"again\n"


def test_end_does_not_wait_for_a_reader_that_stalls(pipe: Pipe) -> None:
    """A process whose reader has stalled for long ends at once: nothing of its time is left for that."""
    pipe.fill()
    pipe.writer.put("lost\n")
    assert not pipe.writer.drain(TIMEOUT)
    pipe.writer._writing_since = -1e9
    assert not pipe.writer.drain(1e9)


def test_reader_that_went_away_costs_lines_only(pipe: Pipe) -> None:
    """A closed pipe raises nothing and ends no thread; each lost line is counted."""
    reading = os.dup(pipe.reading)
    os.dup2(os.open(os.devnull, os.O_RDONLY), pipe.reading)
    os.close(reading)
    for _ in range(3):
        pipe.writer.put("lost\n")
        assert pipe.writer.drain(TIMEOUT)
    assert pipe.writer.dropped == {"failed": 3}


def test_lost_lines_are_reported_once_when_writing_works_again(pipe: Pipe) -> None:
    """A full disk: the notice itself counts as no lost line, and the count is that of the whole time."""
    pipe.writer.notice = lambda lines: f"lost {lines}\n"
    full = os.open("/dev/full", os.O_WRONLY)
    pipe.writer._descriptor = full
    for _ in range(3):
        pipe.writer.put("lost\n")
        assert pipe.writer.drain(TIMEOUT)
    pipe.writer._descriptor = pipe.writing
    pipe.writer.put("back\n")
    assert pipe.writer.drain(TIMEOUT)
    pipe.writer.put("on\n")
    assert pipe.read(15) == b"back\nlost 3\non\n"
    assert pipe.writer.dropped == {"failed": 3}
    os.close(full)


def test_pipe_that_another_process_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    """The flag belongs to all who share the pipe, as it does with Node: the write is tried again."""
    size = pipe.fill()
    os.set_blocking(pipe.writing, False)
    pipe.writer.put("kept\n")
    assert not pipe.writer.drain(0.2)
    pipe.read(size)
    assert pipe.read(5) == b"kept\n"
    assert not pipe.writer.dropped


def test_large_line_is_written_when_nothing_else_waits(pipe: Pipe) -> None:
    """The limit is for what waits, so that a line over the limit is not lost in a quiet process."""
    pipe.writer.put("y" * 500 + "\n")
    assert pipe.read(501) == b"y" * 500 + b"\n"


def test_what_cannot_be_encoded_is_escaped(pipe: Pipe) -> None:
    """Half a surrogate pair does not end the writer."""
    pipe.writer.put("\ud800\n")
    assert pipe.read(7) == b"\\ud800\n"


def test_lines_of_processes_that_share_a_pipe_are_not_mixed() -> None:
    """A pipe takes whole lines up to its atomic size as one piece; a longer line is a piece of its own."""
    lines = [b"a" * 1000 + b"\n"] * 10 + [b"b" * ATOMIC_WRITE * 2 + b"\n", b"c\n", b"no end"]
    pieces = list(chunks(b"".join(lines), ATOMIC_WRITE))
    assert b"".join(pieces) == b"".join(lines)
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
    assert [len(piece) for piece in pieces if len(piece) > ATOMIC_WRITE] == [ATOMIC_WRITE * 2 + 1]


def test_stream_hands_over_complete_lines(pipe: Pipe) -> None:
    """`print` writes the text and the line's end apart: threads do not mix them; `flush` sends the rest."""
    with open(os.dup(pipe.writing), "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        stream = QueuedStream(file, pipe.writer)
        print("one", "two", file=stream)
        stream.write("thr")
        stream.write("ee\nfour")
        assert pipe.read(14) == b"one two\nthree\n"
        stream.flush()
        assert pipe.read(4) == b"four"
        assert (stream.encoding, stream.isatty()) == ("utf-8", False)


def test_lines_of_threads_are_not_mixed(pipe: Pipe) -> None:
    """Each thread has its own incomplete line: nothing of it is lost, repeated or in the line of another thread."""
    with open(os.dup(pipe.writing), "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        stream = QueuedStream(file, pipe.writer)
        stream.write("first ")
        other = Thread(target=lambda: print("second", "line", file=stream))
        other.start()
        other.join()
        stream.write("line\n")
        assert pipe.read(23) == b"second line\nfirst line\n"
        unfinished = Thread(target=stream.write, args=("no end",))
        unfinished.start()
        unfinished.join()
        stream.flush_all()
        assert pipe.read(6) == b"no end"


def test_line_without_an_end_does_not_grow(pipe: Pipe) -> None:
    """A program that shows its progress by dots ends no line: its text is written in pieces."""
    with open(os.dup(pipe.writing), "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        stream = QueuedStream(file, pipe.writer)
        for _ in range(70):
            stream.write("." * 1024)
        assert pipe.read(1024) == b"." * 1024


def test_only_standard_streams_have_a_writer(tmp_path: Path) -> None:
    """The number of another file may be that of a database later; a test's stream has no number at all."""
    with (tmp_path / "file").open("w") as file:
        assert writer_for(file) is None


def test_forked_process_starts_its_own_thread(pipe: Pipe) -> None:
    """A forked process has none of its parent's threads, and not the text that the parent writes."""
    pipe.fill()
    pipe.writer.put("of the parent\n")
    wait_for_thread(pipe)
    pipe.writer.put("of the parent too\n")
    pipe.writer.after_fork()
    assert (pipe.writer._texts, pipe.writer._thread) == ([], None)
    pipe.writer.put("of the child\n")
    assert isinstance(pipe.writer._thread, Thread)


# ── whole processes ──────────────────────────────────────────────────────────

PROGRAM = """
import logging, os, sys, warnings
from service.runtime.log_config import configure_logging
from service.runtime.output_writer import queue_standard_streams
configure_logging("json", "info")
queue_standard_streams()
"""


def run(code: str, **options: int) -> subprocess.CompletedProcess[bytes]:
    """Run a program with logging to its end."""
    command = [sys.executable, "-c", PROGRAM + code]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, check=False, timeout=60, **streams)  # type: ignore[call-overload, no-any-return]  # noqa: S603 - our own program


@pytest.mark.parametrize(
    "end", ["sys.exit(3)", "raise SystemExit(3)", "from service.runtime import shutdown; shutdown._exit(3)"]
)
def test_last_lines_before_the_end_are_written(end: str) -> None:
    """A line that is logged right before the end of the process is not lost, in the order of the calls."""
    done = run(
        f"for n in range(500): logging.getLogger('x').error('line %s', n)\nprint('out'); print('no end', end='')\n{end}"
    )
    assert (done.returncode, done.stdout) == (3, b"out\nno end")
    assert [f'"line {n}"'.encode() in line for n, line in enumerate(done.stderr.splitlines())] == [True] * 500


def test_lines_of_a_forked_process_are_written() -> None:
    """A handler may use processes of its own."""
    done = run(
        "import multiprocessing\nlogging.getLogger('x').error('parent')\n"
        "def work():\n    logging.getLogger('x').error('child'); print('printed')\n"
        "process = multiprocessing.get_context('fork').Process(target=work)\nprocess.start(); process.join()\n"
    )
    assert (done.stdout, done.stderr.count(b"parent"), done.stderr.count(b"child")) == (b"printed\n", 1, 1)


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError('uncaught')",
        "warnings.warn('a warning' * 99)",
        "print('x' * 99999); print('y' * 99999, file=sys.stderr); sys.exit(1)",
        "import click; click.echo('z' * 99999, err=True)",
        "logging.getLogger('x').error('w' * 99999)",
        "import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
    ],
)
def test_process_with_a_full_pipe_ends(code: str, pipe: Pipe) -> None:
    """A traceback, a warning, a print and the flush at the end wait for no reader."""
    pipe.fill()
    done = run(code, stdout=pipe.writing, stderr=pipe.writing)
    assert done.returncode in (0, 1)
