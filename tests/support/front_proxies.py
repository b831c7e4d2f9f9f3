"""Real nginx and HAProxy in front of a test's service, with their usual settings, in a temporary directory."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.processes import HOST
from tests.support.ports import free_port

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
NGINX = shutil.which("nginx", path=PATH)
HAPROXY = shutil.which("haproxy", path=PATH)
START_TIMEOUT = 20.0
NGINX_CONFIG = """
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    server {{
        listen 127.0.0.1:{own};
        location / {{
            proxy_pass http://127.0.0.1:{port};
            {more}
        }}
    }}
}}
"""
"""The defaults of nginx, HTTP/1.0 to the service among them, but for the size of bodies: its own limit is 1 MB."""

UNBUFFERED = "proxy_request_buffering off;"
UNBUFFERED_1_1 = 'proxy_request_buffering off; proxy_http_version 1.1; proxy_set_header Connection "";'
HAPROXY_CONFIG = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen service
    bind 127.0.0.1:{own}
    option http-server-close
    server service 127.0.0.1:{port} check
    option httpchk
"""
"""`option httpchk` without more asks `OPTIONS /`."""


@contextmanager
def nginx(port: int, *, more: str = "") -> Iterator[str]:
    """Yield the address of an nginx that passes everything to `port`; `more` are lines of its location."""
    if NGINX is None:
        raise RuntimeError("nginx is not installed")
    with tempfile.TemporaryDirectory(prefix="boomerang-nginx-") as name:
        home, own = Path(name), free_port()
        config = home / "nginx.conf"
        config.write_text(NGINX_CONFIG.format(home=home, own=own, port=port, more=more))
        if os.geteuid() == 0:  # its workers run as somebody else
            home.chmod(0o755)
        with _running([NGINX, "-p", name, "-e", f"{name}/error.log", "-c", str(config)], home, own):
            yield f"http://{HOST}:{own}"


@contextmanager
def haproxy(port: int) -> Iterator[str]:
    """Yield the address of an HAProxy that passes everything to `port`, once its check of the service holds."""
    if HAPROXY is None:
        raise RuntimeError("haproxy is not installed")
    with tempfile.TemporaryDirectory(prefix="boomerang-haproxy-") as name:
        home, own = Path(name), free_port()
        config = home / "haproxy.cfg"
        config.write_text(HAPROXY_CONFIG.format(own=own, port=port))
        with _running([HAPROXY, "-db", "-f", str(config)], home, own):
            yield f"http://{HOST}:{own}"


@contextmanager
def _running(command: list[str], home: Path, port: int) -> Iterator[None]:
    """Run `command` inside the block, from when it listens on `port`."""
    log = home / "output.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=home, stdout=file, stderr=file)  # noqa: S603 - our own command
        try:
            _wait_for_port(port, process, log)
            yield
        finally:
            process.terminate()
            process.wait()


def _wait_for_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection((HOST, port), timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not start: {log.read_text()[-2000:]}")
