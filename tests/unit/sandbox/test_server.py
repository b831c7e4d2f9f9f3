"""The sandbox on real sockets: dropped connections, callbacks on loopback, the command."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import httpx
import pytest
import uvicorn
from click.testing import CliRunner

from service.cli.sandbox import SandboxServer
from service.cli.sandbox import sandbox as command
from service.sandbox import First, MediaExtraMissing, Sandbox, Switches
from service.sandbox.switches import switch_table
from tests.unit.sandbox.test_bench import Bench, Receiver, seeded

_PROGRAM = (sys.executable, "-c", "from service.cli.sandbox import sandbox; sandbox()")


def listener() -> socket.socket:
    """Return a socket that listens on a free loopback port."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(64)
    return listening


@pytest.fixture(params=["httptools", "h11"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Serve a sandbox with uvicorn on a real socket."""
    sandbox = Sandbox(Switches(tiny_videos=True, run_time=0), now=lambda: datetime.now(UTC), random=seeded(1))
    config = uvicorn.Config(sandbox.app, http=request.param, log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    with listener() as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=base, timeout=10, trust_env=False) as client:
            yield Bench(sandbox, client, Receiver())
        server.should_exit = True
        await serving


async def collect(reply: httpx.Response, received: bytearray) -> None:
    """Append the received chunks to `received`."""
    async for chunk in reply.aiter_raw():
        received += chunk


async def idle(at: Bench) -> None:
    """Wait until the sandbox has no work, for at most ten seconds."""
    async with asyncio.timeout(10):
        await at.sandbox.idle()


async def test_lost_reply_is_a_dropped_connection(served: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The client sees the connection end without a response; the task is billed, and the server logs nothing."""
    served.sandbox.turn({"lose_create_reply": "first 1"})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        await served.create()
    assert len(served.sandbox.bills) == 1
    assert (await served.create()).status_code == 200
    assert caplog.records == []


async def test_download_is_cut_half_way(served: Bench) -> None:
    """The client receives less than the announced length, and an error."""
    served.sandbox.turn({"cut_downloads": 1, "completed_at_once": 1})
    url = (await served.create()).json()["output"][0]["content"][0]["url"]
    received = bytearray()
    async with served.client.stream("GET", url) as reply:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await collect(reply, received)
    assert 0 < len(received) < int(reply.headers["Content-Length"])


async def test_callbacks_reach_a_loopback_receiver(served: Bench) -> None:
    """Callbacks use real connections to the unchanged address, on loopback only."""
    lines = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append(await reader.readline())
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(receive, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await served.create(callback_url=f"http://127.0.0.1:{port}/callbacks/some-token")
        await idle(served)
    assert lines == [b"POST /callbacks/some-token HTTP/1.1\r\n"] * 2
    await served.create(callback_url="http://192.0.2.1/callbacks/elsewhere")
    await idle(served)
    assert (served.counted("callbacks", "forbidden"), served.counted("callbacks", "delivered")) == (2, 2)
    assert served.counted("callbacks", "sent") == 2


async def test_unreachable_receiver_is_counted_for_each_attempt(served: Bench) -> None:
    """A refused connection counts as unreachable, once for the start and once for each final attempt."""
    served.sandbox.turn({"callback_pause": 0})
    with listener() as free:
        port = free.getsockname()[1]
    await served.create(callback_url=f"http://127.0.0.1:{port}/callbacks/x")
    await idle(served)
    assert served.counted("callbacks", "unreachable") == 5


@contextmanager
def program(*args: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Run the command, and yield its address and process."""
    with subprocess.Popen([*_PROGRAM, *args], stderr=subprocess.PIPE, text=True, env={**os.environ}) as process:  # noqa: S603 - our own command
        assert process.stderr is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
        try:
            assert found is not None
            yield found[0], process
        finally:
            process.kill()


@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_command_serves_on_loopback_and_ends_on_a_signal(signal_number: signal.Signals, code: int) -> None:
    """`sandbox --port 0` prints its address, serves with its switches, and ends on a signal without a traceback."""
    with program("--port", "0", "--tiny-videos", "--lose-callbacks", "0.3", "--html-500-poll", "first 2") as running:
        base, process = running
        shown = httpx.get(f"{base}/sandbox/switches", timeout=10, trust_env=False).json()
        assert (shown["tiny_videos"], shown["lose_callbacks"], shown["html_500_poll"]) == (True, 0.3, "first 2")
        process.send_signal(signal_number)
        _, output = process.communicate(timeout=10)
        assert (process.returncode, "Traceback" in output) == (code, False)


def test_help_shows_every_switch() -> None:
    """Each switch has an option with its description."""
    text = " ".join(CliRunner().invoke(command, ["--help"], terminal_width=200).output.split())
    for name, switch in switch_table().items():
        assert f"--{name.replace('_', '-')}" in text
        assert switch.about.text[:40] in text


def test_help_shows_defaults_in_their_input_form() -> None:
    """A default in the help is valid input: the switch parses it to itself."""
    text = " ".join(CliRunner().invoke(command, ["--help"], terminal_width=200).output.split())
    for name, shown in (("url_life", "1d"), ("run_time", "3s"), ("callback_retries", "3")):
        switch = switch_table()[name]
        assert f"{switch.about.text} [default: {shown}]" in text
        assert switch.read(shown) == switch.default


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--lose-callbacks", "2"], "lose_callbacks"),
        (["--run-time", "soon"], "run_time"),
        (["--no-such-switch"], "--no-such-switch"),
        (["--host", "0.0.0.0"], "loopback"),  # noqa: S104 - refused
    ],
)
def test_wrong_use_is_refused_with_exit_code_2(args: list[str], named: str) -> None:
    """An invalid value, option or host ends the command before it listens."""
    result = CliRunner().invoke(command, args)
    assert result.exit_code == 2
    assert named in result.output


def test_port_in_use_is_refused() -> None:
    """A port in use is a usage error with a message."""
    with listener() as taken:
        result = CliRunner().invoke(command, ["--port", str(taken.getsockname()[1])])
    assert result.exit_code == 2
    assert "cannot listen" in result.output


def test_without_the_media_extra_the_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Class and command name the missing extra."""
    for name in ("service.sandbox.video_rendering", "service.sandbox.media_store"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delattr(name, raising=False)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MediaExtraMissing, match="lacks av: the extra `media` is missing"):
        Sandbox(Switches(lose_callbacks=First(1)), now=lambda: datetime.now(UTC), random=seeded(1))
    result = CliRunner().invoke(command, ["--port", "0"])
    assert (result.exit_code, "pip install -r requirements.txt" in result.output) == (2, True)


def test_without_the_media_extra_the_command_names_the_fix() -> None:
    """In a new process, `boomerang sandbox` names the extra and exits with code 2."""
    program = "import sys; sys.modules['av'] = None; from service.cli import main; main(['sandbox', '--port', '0'])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - our own
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "pip install -r requirements.txt" in ended.stderr


def test_second_signal_ends_the_command_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one stops the server; nothing waits for the end after another."""
    codes: list[int] = []
    monkeypatch.setattr("service.cli.sandbox.os._exit", codes.append)
    server = SandboxServer(uvicorn.Config("unused"))
    server.handle_exit(signal.SIGINT, None)
    assert (server.should_exit, codes) == (True, [])
    server.handle_exit(signal.SIGINT, None)
    assert codes == [130]
