"""The ports that processes of the tests are given."""

import socket

from tests.acceptance.processes import HOST, PORTS, free_port


def test_a_port_that_is_listened_on_is_given_to_nobody() -> None:
    """Each call gives another, none that is taken, and none that an outgoing connection may get."""
    with socket.create_server((HOST, free_port())) as taken:
        given = {free_port() for _ in PORTS}
        assert taken.getsockname()[1] not in given
    assert len(given) > len(PORTS) // 2
    assert given <= set(PORTS)
