"""Real `boomerang` processes on loopback with a clean environment; each ends with its test."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from types import TracebackType
from typing import Any

import anyio
import httpx

from tests.acceptance.fork_server import ForkedProcess, fork_server, may_fork
from tests.support.plain_http import NO_CERTIFICATES

HOST = "127.0.0.1"
TIMEOUT = 90.0
"""Default timeout in seconds; the machine may be slow."""

CHECK_INTERVAL = 0.05
LOG_TAIL = 4000
BIN = Path(sys.executable).parent
INHERITED = ("PYTHONPATH",)
TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int, *, ended_children: bool = False) -> float:
    """Return the CPU time of a process in seconds, on request with its ended children (`proc(5)`)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if ended_children else 13])) / TICKS


@dataclass(kw_only=True)
class Child:
    """A started process and the file with its output."""

    name: str
    process: "subprocess.Popen[bytes] | ForkedProcess"
    log: Path
    url: str = ""

    @property
    def alive(self) -> bool:
        """Return whether it is running."""
        return self.process.poll() is None

    def output(self) -> str:
        """Return its output so far."""
        return self.log.read_text(errors="replace")

    def crash(self) -> None:
        """Kill it without a shutdown, as a power failure does."""
        self.process.kill()
        self.process.wait(TIMEOUT)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    async def ended(self, *, seconds: float = TIMEOUT) -> int:
        """Wait until it exits and return its exit code. Raises TimeoutError after `seconds`."""
        await until(lambda: not self.alive, what=f"the end of {self.name}", seconds=seconds)
        return self.process.wait(seconds)

    def memory(self, kind: str = "VmRSS") -> int:
        """Return its memory in bytes: `VmRSS` is the current value, `VmHWM` the peak."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(rf"^{kind}:\s+(\d+) kB$", status, re.MULTILINE)[0]) * 1024

    def processor_seconds(self) -> float:
        """Return its CPU time in seconds."""
        return processor_seconds(self.process.pid)


@dataclass(kw_only=True)
class Workspace:
    """A working directory and the processes started in it. The end of the block kills them and prints their output.

    With `forks`, `boomerang` is started by fork, which takes a third of the processor time: not where memory or a start
    is measured.
    """

    home: Path
    quiet: bool = False
    forks: bool = False
    children: list[Child] = field(default_factory=list)

    def __enter__(self) -> "Workspace":
        self.home.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()
        if not self.quiet:
            self._print_logs()

    def end(self) -> None:
        """Kill every running process."""
        for child in self.children:
            if child.alive:
                child.process.kill()
            child.process.wait(TIMEOUT)

    def _print_logs(self) -> None:
        for child in self.children:
            sys.stdout.write(f"── {child.name} (exit {child.process.returncode})\n{child.output()[-LOG_TAIL:]}\n")

    def start(self, name: str, *arguments: str, env: Mapping[str, str] | None = None, url: str = "") -> Child:
        """Start `boomerang` with these arguments and a clean environment."""
        own = self.environment(env)
        if not (self.forks and may_fork(own)):
            return self.run(name, [str(BIN / "boomerang"), *arguments], env=env, url=url)
        log = self._next_log(name)
        with log.open("wb") as file:
            process = fork_server().start(arguments, cwd=self.home, env=own, stdout=file, stderr=file)
        return self._started(Child(name=name, process=process, log=log, url=url))

    def run(self, name: str, command: list[str], *, env: Mapping[str, str] | None = None, url: str = "") -> Child:
        """Start any command in the same way."""
        log = self._next_log(name)
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 - trusted command
                command,
                cwd=self.home,
                env=self.environment(env),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        return self._started(Child(name=name, process=process, log=log, url=url))

    def _next_log(self, name: str) -> Path:
        return self.home / f"{len(self.children)}-{name}.log"

    def _started(self, child: Child) -> Child:
        self.children.append(child)
        return child

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return a clean environment, extended by `more`."""
        path = f"{BIN}:/usr/local/bin:/usr/bin:/bin"
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        home = {
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
        }  # temporary files of killed processes are deleted with the workspace
        return {"PATH": path, "LANG": "C.UTF-8", **home, **inherited, **(more or {})}


async def until(
    holds: Callable[[], bool | Awaitable[bool]], *, what: str, seconds: float = TIMEOUT, pause: float = CHECK_INTERVAL
) -> None:
    """Wait until `holds` returns true. Raises TimeoutError with `what` after `seconds`."""
    end = monotonic() + seconds
    while True:
        found = holds()
        if found if isinstance(found, bool) else await found:
            return
        if monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {seconds:.0f} s")
        await anyio.sleep(pause)


async def wait_for_response(
    child: Child, path: str = "/readyz", *, status: int = 200, seconds: float = TIMEOUT
) -> None:
    """Wait until the process responds to `path` with `status`. Raises AssertionError if it exits instead."""
    async with httpx.AsyncClient(base_url=child.url, trust_env=False, verify=NO_CERTIFICATES) as http:

        async def answers() -> bool:
            assert child.alive, f"{child.name} ended with {child.process.returncode}: {child.output()[-LOG_TAIL:]}"
            with suppress(httpx.HTTPError):
                return (await http.get(path)).status_code == status
            return False

        await until(answers, what=f"{status} of {child.name}{path}", seconds=seconds)


async def command(workspace: Workspace, *arguments: str, env: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Run `boomerang` until it exits; return the exit code, standard output and standard error."""
    own = workspace.environment(env)
    if workspace.forks and may_fork(own):
        return await _forked_command(workspace.home, arguments, own)
    with anyio.fail_after(TIMEOUT):
        done = await anyio.run_process([str(BIN / "boomerang"), *arguments], cwd=workspace.home, env=own, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def _forked_command(home: Path, arguments: Sequence[str], env: Mapping[str, str]) -> tuple[int, str, str]:
    with TemporaryFile() as stdout, TemporaryFile() as stderr:
        process = fork_server().start(arguments, cwd=home, env=env, stdout=stdout, stderr=stderr)
        try:
            await until(lambda: process.poll() is not None, what=f"the end of boomerang {arguments[0]}")
        finally:
            process.kill()
        code = process.wait(TIMEOUT)
        found = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (stdout, stderr)]
    return code, found[0], found[1]


Json = dict[str, Any]
