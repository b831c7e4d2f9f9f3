"""Ports of the test processes."""

import socket

from tests.acceptance.processes import HOST, PORTS, free_port


def test_used_port_is_never_returned() -> None:
    """Each call returns another port: none in use, and none in the range for outgoing connections."""
    with socket.create_server((HOST, free_port())) as taken:
        ports = {free_port() for _ in PORTS}
        assert taken.getsockname()[1] not in ports
    assert len(ports) > len(PORTS) // 2
    assert ports <= set(PORTS)
