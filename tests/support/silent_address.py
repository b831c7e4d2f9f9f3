"""An address that answers nothing: the queue of its listener is full, so the system drops what wants to connect."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

QUEUED = 3
"""Connections that fill the queue of a listener with a backlog of 0."""


@contextmanager
def silent_address(host: str, port: int = 0) -> Iterator[int]:
    """Listen on `host` inside the block without ever accepting, and yield the port. Linux only."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(QUEUED):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield address[1]
