"""Two test processes never get the same port."""

import socket
import subprocess
import sys

from tests.support.ports import HOST, free_port


def test_port_is_given_once_while_its_process_runs() -> None:
    """Also before its server has bound it: else a test would talk to the server of another one."""
    own = {free_port() for _ in range(20)}
    assert len(own) == 20
    code = f"from tests.support import ports; ports.PORTS = {sorted(own)}; print(ports.free_port())"
    other = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)  # noqa: S603
    assert other.stdout == ""
    assert "no port is free" in other.stderr


def test_port_that_a_server_uses_is_left() -> None:
    """One of another program, for example."""
    port = free_port()
    with socket.create_server((HOST, port)):
        assert port not in {free_port() for _ in range(5)}
