"""Disks that are full or read-only for a while: nothing is acknowledged without being stored, and work continues."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import httpx

from tests.acceptance.environment import sqlite
from tests.acceptance.processes import Workspace, until
from tests.chaos.audit import Audit
from tests.chaos.environment import Effort, Environment, open_environment
from tests.chaos.fleet import process_slot
from tests.chaos.requirements import Unavailable, command_or_none
from tests.chaos.servers import over_postgres
from tests.support.postgres import postgres_server

MEGABYTES = 48
"""More than the database with its log, which SQLite copies into the file after 16 MB: the fault has to end."""
SERVER_MEGABYTES = 320
"""Enough for the files of a PostgreSQL, with its programs if they must be copied."""

HOLD_SECONDS = 2.0
"""Seconds that a fault lasts after the first deferred callback."""


async def full_disk(workspace: Workspace, effort: Effort) -> Audit:
    """Fill the small disk under the SQLite file, wait until callbacks are deferred, and free the space."""
    with small_disk(MEGABYTES) as disk:
        only = process_slot("all")
        url = f"sqlite:///{disk / 'boomerang.db'}"
        async with open_environment("disk full, SQLite", workspace, url, [only]) as environment:
            await environment.fleet.started()
            await _fill(disk, environment, effort)
            try:
                return await environment.audit()
            finally:
                workspace.end()  # before its disk is unmounted


async def full_disk_postgres(workspace: Workspace, effort: Effort) -> Audit:
    """Fill the disk under a PostgreSQL, wait until callbacks are deferred, and free the space."""
    with small_disk(SERVER_MEGABYTES) as disk, temporary_files_on(disk), postgres_server(durable=True) as server:
        async with over_postgres(workspace, server, "disk full, PostgreSQL") as environment:
            await _fill(disk, environment, effort)
            return await environment.audit()


async def read_only_disk(workspace: Workspace, effort: Effort) -> Audit:
    """Make the SQLite file of a running service read-only, and writable again."""
    only = process_slot("all")
    async with open_environment("SQLite file read-only", workspace, sqlite(workspace), [only]) as environment:
        await environment.fleet.started()
        for _ in range(effort.injections):
            await environment.wait_for_progress()
            with read_only([workspace.home / "boomerang.db", workspace.home / "boomerang.db-wal"]):
                await _deferred(environment)
                await _not_ready(environment)
            environment.fleet.injected["times"] += 1
        await environment.wait_for_progress()
        return await environment.audit()


async def _fill(disk: Path, environment: Environment, effort: Effort) -> None:
    """Fill the disk several times, each time until callbacks are deferred, and wait for progress in between."""
    for _ in range(effort.injections):
        await environment.wait_for_progress()
        with filled(disk):
            await _deferred(environment)
        environment.fleet.injected["times"] += 1
    await environment.wait_for_progress()


async def _deferred(environment: Environment) -> None:
    await environment.wait_for_deferred()
    await anyio.sleep(HOLD_SECONDS)


async def _not_ready(environment: Environment) -> None:
    """Check that /readyz reports the database as the reason."""
    url = environment.fleet.slots[0].url
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:

        async def reports() -> bool:
            answer = await http.get("/readyz")
            return answer.status_code == 503 and "the database cannot" in answer.json()["detail"]

        with suppress(TimeoutError):
            await until(reports, what="an unready service", seconds=10)
            return
        environment.unexpected.append(f"/readyz on a read-only disk: {(await http.get('/readyz')).text}")


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Mount a disk of this size inside the block; raises Unavailable where that is not allowed."""
    mount, umount = command_or_none("mount"), command_or_none("umount")
    if not mount or not umount or os.geteuid() != 0:
        raise Unavailable("only root may mount a small disk")
    at = tempfile.mkdtemp(prefix="boomerang-disk-")
    try:
        _run([mount, "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", at], "a small disk cannot be mounted")
        try:
            yield Path(at)
        finally:
            _run([umount, at], "the small disk cannot be unmounted")
    finally:
        Path(at).rmdir()


@contextmanager
def temporary_files_on(disk: Path) -> Iterator[None]:
    """Create temporary directories on this disk inside the block."""
    before, tempfile.tempdir = tempfile.tempdir, str(disk)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Fill the disk to the last byte, and free the space at the end of the block."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        for size in (65536, 1):
            with suppress(OSError):
                while file.write(b"x" * size):
                    pass
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def read_only(files: list[Path]) -> Iterator[None]:
    """Make these files immutable inside the block, also for root and open descriptors; raises Unavailable."""
    chattr = command_or_none("chattr")
    if not chattr or os.geteuid() != 0:
        raise Unavailable("only root may make an open file read-only")
    names = [str(file) for file in files]
    _run([chattr, "+i", *names], "this file system has no read-only files")
    try:
        yield
    finally:
        _run([chattr, "-i", *names], "the file cannot be made writable again")


def _run(command: list[str], reason: str) -> None:
    done = subprocess.run(command, capture_output=True, check=False, text=True)  # noqa: S603 - our own command
    if done.returncode:
        raise Unavailable(f"{reason}: {done.stderr.strip()}")
