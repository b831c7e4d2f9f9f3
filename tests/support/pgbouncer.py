"""A real PgBouncer in front of a test's PostgreSQL, which lends its sessions from transaction to transaction."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from tests.support.ports import free_port

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
REASON = "pgbouncer is not installed"
START_TIMEOUT = 20.0
NOBODY_UID = 65534
SETTINGS = """
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
auth_type = any
pool_mode = {mode}
default_pool_size = {sessions}
server_round_robin = 1
unix_socket_dir =
"""
"""`server_round_robin` gives a transaction another session than the one before, so that nothing left behind helps."""


@contextmanager
def pgbouncer(url: str, *, mode: str = "transaction", sessions: int = 4) -> Iterator[str]:
    """Yield the address of the database at `url` through a PgBouncer with up to `sessions` sessions of the server."""
    if PROGRAM is None:
        raise RuntimeError(REASON)
    at, own = make_url(url), free_port()
    with tempfile.TemporaryDirectory(prefix="boomerang-pgbouncer-") as home:
        settings = Path(home) / "pgbouncer.ini"
        values = {"host": at.host, "port": at.port, "user": at.username, "own": own, "mode": mode, "sessions": sessions}
        settings.write_text(SETTINGS.format(**values))
        if root := os.geteuid() == 0:  # which it refuses to run as
            Path(home).chmod(0o755)
        log = (Path(home) / "log").open("wb")
        process = subprocess.Popen(  # noqa: S603 - our own program and arguments
            [PROGRAM, str(settings)],
            stdout=log,
            stderr=log,
            user=NOBODY_UID if root else None,
            extra_groups=[] if root else None,
        )
        try:
            _wait_for_port(own, process, Path(home) / "log")
            yield at.set(host="127.0.0.1", port=own).render_as_string(hide_password=False)
        finally:
            process.kill()
            process.wait()
            log.close()


def _wait_for_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"pgbouncer does not start: {log.read_text()[-2000:]}")
