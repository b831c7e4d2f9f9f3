"""Disks that are full or read-only for a while: nothing is acknowledged that is not kept, and all goes on after it."""

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
from tests.chaos.environment import Effort, Stage, stage
from tests.chaos.fleet import place
from tests.chaos.requirements import Impossible, command_or_none
from tests.chaos.servers import over_postgres
from tests.support.postgres import postgres_server

MEGABYTES = 8
SERVER_MEGABYTES = 320
"""Room for a PostgreSQL's own files, its programs among them where they must be copied."""

HELD = 2.0
"""Seconds that a fault is held after the first callback was put off."""


async def full_disk(workspace: Workspace, effort: Effort) -> Audit:
    """Fill the small disk under the SQLite file, wait until callbacks are put off, and make room again."""
    with small_disk(MEGABYTES) as disk:
        only = place("all")
        url = f"sqlite:///{disk / 'boomerang.db'}"
        async with stage("disk full, SQLite", workspace, url, [only]) as play:
            await play.fleet.started()
            await _fill(disk, play, effort)
            try:
                return await play.audit()
            finally:
                workspace.end()  # before its disk goes


async def full_disk_postgres(workspace: Workspace, effort: Effort) -> Audit:
    """Fill the disk under a PostgreSQL, wait until callbacks are put off, and make room again."""
    with small_disk(SERVER_MEGABYTES) as disk, temporary_files_on(disk), postgres_server(durable=True) as server:
        async with over_postgres(workspace, server, "disk full, PostgreSQL") as play:
            await _fill(disk, play, effort)
            return await play.audit()


async def read_only_disk(workspace: Workspace, effort: Effort) -> Audit:
    """Make the SQLite file read-only under a running service, and writable again."""
    only = place("all")
    async with stage("SQLite file read-only", workspace, sqlite(workspace), [only]) as play:
        await play.fleet.started()
        for _ in range(effort.strikes):
            await play.flowing()
            with read_only([workspace.home / "boomerang.db", workspace.home / "boomerang.db-wal"]):
                await _deferred(play)
                await _not_ready(play)
            play.fleet.struck["read-only spells"] += 1
        await play.flowing()
        return await play.audit()


async def _fill(disk: Path, play: Stage, effort: Effort) -> None:
    """Fill the disk again and again, each time until callbacks were put off, and let all go on in between."""
    for _ in range(effort.strikes):
        await play.flowing()
        with filled(disk):
            await _deferred(play)
        play.fleet.struck["fills"] += 1
    await play.flowing()


async def _deferred(play: Stage) -> None:
    await play.put_off()
    await anyio.sleep(HELD)


async def _not_ready(play: Stage) -> None:
    """See that the service says that it is not ready, and why."""
    url = play.fleet.places[0].url
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:

        async def says() -> bool:
            answer = await http.get("/readyz")
            return answer.status_code == 503 and "the database cannot" in answer.json()["detail"]

        with suppress(TimeoutError):
            await until(says, what="an unready service", seconds=10)
            return
        play.odd.append(f"/readyz on a read-only disk: {(await http.get('/readyz')).text}")


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Mount a disk of so many megabytes inside the block; raises Impossible where that is not allowed."""
    mount, umount = command_or_none("mount"), command_or_none("umount")
    if not mount or not umount or os.geteuid() != 0:
        raise Impossible("only root may mount a small disk")
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
    """Make temporary directories on this disk inside the block."""
    before, tempfile.tempdir = tempfile.tempdir, str(disk)
    try:
        yield
    finally:
        tempfile.tempdir = before


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Fill the disk to the last byte, and make room again at the end of the block."""
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
    """Let nobody write these files inside the block, not even root or who has them open; raises Impossible."""
    chattr = command_or_none("chattr")
    if not chattr or os.geteuid() != 0:
        raise Impossible("only root may make an open file read-only")
    names = [str(file) for file in files]
    _run([chattr, "+i", *names], "this file system has no read-only files")
    try:
        yield
    finally:
        _run([chattr, "-i", *names], "the file cannot be made writable again")


def _run(command: list[str], why: str) -> None:
    done = subprocess.run(command, capture_output=True, check=False, text=True)  # noqa: S603 - our own command
    if done.returncode:
        raise Impossible(f"{why}: {done.stderr.strip()}")
