"""Starts `boomerang` by fork from a process that has imported it: most processor time of a start is spent in imports.

The new process has its own memory, environment, working directory and output, runs `service.cli.main` and ends like any
other; only the imports are done. A measure of memory or of a start needs a process of its own, see `Workspace.forks`.
"""

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

BIN = Path(sys.executable).parent
MAX_REQUEST = 128 * 1024
"""Most bytes of the arguments and the environment of one process."""

MAX_OPEN = 1024
"""More than the number of any file that the fork server has open."""

READ_AT_START = ("PYTHON", "LD_", "LANG", "LC_", "TZ", "MALLOC", "GLIBC")
"""Beginnings of variables that an interpreter or the C library reads once: a process that has one is not forked."""

PRELOADED = (
    "service.cli",
    "service.cli.server",
    "service.cli.sandbox",
    "service.cli.tasks",
    "service.runtime.process",
    "service.runtime.late_imports",
    "service.sandbox.video_rendering",
    "service.storage.migrate",
    "service.storage.pg_driver",
    "service.storage.pg_listener",
    "sqlalchemy.dialects.postgresql",
    *(f"handlers.{name}" for name in ("archive", "broker", "discord", "log", "slack", "telegram", "webhook")),
    "anyio._backends._asyncio",
    "apscheduler.schedulers.asyncio",
    "PIL.Image",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.auto",
)
"""What most processes import, beside what a running service imports late."""


@dataclass(kw_only=True)
class ForkedProcess:
    """A forked process, with what tests use of `subprocess.Popen`. Its parent writes its wait status into `status`."""

    pid: int
    status: BinaryIO
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        with suppress(BlockingIOError):
            return self._read()
        return None

    def wait(self, timeout: float) -> int:
        """Wait until it ends and return the exit code. Raises TimeoutError after `timeout` seconds."""
        if self.returncode is None and not select.select([self.status], [], [], timeout)[0]:
            raise TimeoutError(f"process {self.pid} did not end within {timeout:.0f} s")
        return self._read()

    def send_signal(self, number: int) -> None:
        """Send a signal unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _read(self) -> int:
        if self.returncode is None:
            text = os.read(self.status.fileno(), 16)
            self.returncode = os.waitstatus_to_exitcode(int(text)) if text else -signal.SIGKILL
            self.status.close()
        return self.returncode


@dataclass(kw_only=True)
class ForkServer:
    """The process that forks; it ends with this one, and kills what it has forked."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _socket: socket.socket = field(init=False)
    _process: "subprocess.Popen[bytes]" = field(init=False)  # it ends when the socket is closed

    def __post_init__(self) -> None:
        self._socket, of_child = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with of_child:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", __name__, str(of_child.fileno())],
                cwd=Path(__file__).parents[2],
                env={"LANG": "C.UTF-8", "PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[of_child.fileno()],
            )

    def start(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdout: BinaryIO, stderr: BinaryIO
    ) -> ForkedProcess:
        """Start `boomerang` with these arguments."""
        request = json.dumps([list(arguments), str(cwd), dict(env)]).encode()
        assert len(request) <= MAX_REQUEST
        read, write = os.pipe()
        with self._lock:
            socket.send_fds(self._socket, [request], [stdout.fileno(), stderr.fileno(), write])
            os.close(write)
            pid = int(self._socket.recv(16))
        os.set_blocking(read, False)
        return ForkedProcess(pid=pid, status=os.fdopen(read, "rb", buffering=0))


@cache
def fork_server() -> ForkServer:
    """Return the server of this process."""
    return ForkServer()


def may_fork(env: Mapping[str, str]) -> bool:
    """Return whether a forked process can have this environment, on Linux; it inherits the language."""
    own = {name: value for name, value in env.items() if (name, value) != ("LANG", "C.UTF-8")}
    return sys.platform == "linux" and not any(name.startswith(READ_AT_START) for name in own)


@dataclass(kw_only=True)
class _Parent:
    """The loop of the fork server. It has one thread, as a process that forks should."""

    requests: socket.socket
    _running: dict[int, int] = field(default_factory=dict)  # the pipe for the status, by process

    def run(self) -> list[str]:
        """Fork for each request; return its arguments in the new process."""
        wake_up, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        while True:
            ready, _, _ = select.select([self.requests.fileno(), wake_up], [], [])
            if wake_up in ready:
                os.read(wake_up, 4096)
                self._report_ended()
            if self.requests.fileno() in ready and (arguments := self._fork()) is not None:
                return arguments

    def _report_ended(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            pipe = self._running.pop(pid)
            with suppress(BrokenPipeError):
                os.write(pipe, str(status).encode())
            os.close(pipe)

    def _fork(self) -> list[str] | None:
        request, fds, _, _ = socket.recv_fds(self.requests, MAX_REQUEST, 3)
        if not request:
            self._end()
        stdout, stderr, status = fds
        if pid := os.fork():
            self._running[pid] = status
            os.close(stdout)
            os.close(stderr)
            self.requests.send(str(pid).encode())
            return None
        arguments, cwd, env = json.loads(request)
        _become(stdout, stderr, Path(cwd), env)
        return [str(BIN / "boomerang"), *arguments]

    def _end(self) -> None:
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
        os._exit(0)


def _become(stdout: int, stderr: int, cwd: Path, env: Mapping[str, str]) -> None:
    """Make this forked process one that was started in a directory with an environment and files for its output."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.closerange(3, MAX_OPEN)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[0] = str(BIN)


def _serve() -> list[str]:
    """Import the service, then fork; return the arguments in each new process."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    for name in PRELOADED:
        import_module(name)
    late = import_module("service.runtime.late_imports")
    for name in late.late_modules("all", dashboard=True):
        import_module(name)
    threads = len([*Path("/proc/self/task").iterdir()])
    assert threads == 1, f"{threads} threads: a forked process would have one of them"
    gc.collect()
    gc.freeze()
    return _Parent(requests=requests).run()


if __name__ == "__main__":
    sys.argv = _serve()
    gc.unfreeze()
    sys.exit(import_module("service.cli").main())
