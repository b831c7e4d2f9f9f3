"""The first process of a container: the kernel ignores signals for which it has no handler (pid_namespaces(7))."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.environment import settings, sqlite
from tests.acceptance.processes import BIN, HOST, Child, Workspace, until, wait_for_response
from tests.acceptance.shutdown_helpers import SHUTDOWN_LIMIT
from tests.support.ports import free_port

UNSHARE = [shutil.which("unshare") or "unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.fixture(autouse=True)
def _permitted() -> None:
    """Skip where no process may have a namespace of its own."""
    try:
        subprocess.run([*UNSHARE, "true"], check=True, capture_output=True, timeout=60)  # noqa: S603 - our own command
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no namespace for processes: {error}")


def contained(workspace: Workspace, *arguments: str, env: dict[str, str], url: str = "") -> Child:
    """Start `boomerang` as the first process of a namespace, through a shell as a Procfile does."""
    line = " ".join(["exec", str(BIN / "boomerang"), *arguments])
    return workspace.run("contained", [*UNSHARE, "/bin/sh", "-c", line], env=env, url=url)


async def first_process(child: Child) -> int:
    """Return the process id of the first process, seen from outside, once it is the command."""
    children = Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children")
    found: list[int] = []

    def started() -> bool:
        found[:] = [int(pid) for pid in children.read_text().split()]
        return bool(found) and b"boomerang" in Path(f"/proc/{found[0]}/cmdline").read_bytes()

    await until(started, what="the first process")
    return found[0]


def descendants(pid: int) -> list[str]:
    """Return the children of a process."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.parametrize("arguments", [["serve"], ["worker"]])
async def test_first_process_stops_in_order(workspace: Workspace, arguments: list[str]) -> None:
    """SIGTERM ends it in time, and it has started no process that it would have to wait for."""
    port = free_port()
    env = settings(f"http://{HOST}:9", None, sqlite(workspace))
    child = contained(workspace, *arguments, "--port", str(port), env=env, url=f"http://{HOST}:{port}")
    pid = await first_process(child)
    await wait_for_response(child)
    assert descendants(pid) == []
    os.kill(pid, signal.SIGTERM)
    assert await child.ended(seconds=SHUTDOWN_LIMIT) == 0
    assert '"stopped"' in child.output()


async def test_first_process_ends_while_it_starts(workspace: Workspace) -> None:
    """SIGTERM before the service has its own handlers, while a module of a handler is imported, ends it too."""
    (workspace.home / "handlers").mkdir()
    (workspace.home / "handlers" / "slow.py").write_text(
        "import time, pathlib\nfrom service import Handlers\npathlib.Path('began').touch()\ntime.sleep(3600)\n"
    )
    child = contained(workspace, "migrate", env=settings(f"http://{HOST}:9", None, sqlite(workspace)))
    pid = await first_process(child)
    await until((workspace.home / "began").exists, what="the import of the handler")
    os.kill(pid, signal.SIGTERM)
    await child.ended(seconds=SHUTDOWN_LIMIT)
    assert child.output() == ""
