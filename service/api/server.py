"""uvicorn inside a running event loop, without its signal handlers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from service.api.connections import MAX_CONNECTIONS, SWEEP_INTERVAL, BoundedServerState, Connections
from service.api.http_protocol import BoundedProtocol

KEEP_ALIVE = 75.0
"""How long an idle connection is kept, in seconds: longer than the 60 seconds of usual load balancers.

The side that closes first should be the balancer: otherwise it sends a request on a connection that has just ended.
"""


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: the caller of `serving` decides when to stop.

    It has at most `max_connections` open connections.
    """

    def __init__(self, config: uvicorn.Config, *, max_connections: int = MAX_CONNECTIONS) -> None:
        super().__init__(config)
        self._registry = Connections(maximum=max_connections)
        self.server_state = BoundedServerState(self._registry)

    async def on_tick(self, counter: int) -> bool:
        """Close connections without progress every SWEEP_INTERVAL seconds; called ten times a second."""
        if counter % (10 * SWEEP_INTERVAL) == 0:
            connections = cast("set[BoundedProtocol]", self.server_state.connections)
            self._registry.sweep(connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket on `host` and `port` (0 takes a free one); raises OSError when it is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def base_url(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def serving(
    app: ASGIApp,
    listener: socket.socket,
    *,
    grace: int = 8,
    max_connections: int = MAX_CONNECTIONS,
    keep_alive: float = KEEP_ALIVE,
) -> AsyncIterator[str]:
    """Serve `app` on `listener` inside the block and yield its URL; running requests get `grace` seconds at the end.

    When there are `max_connections` connections, a new one closes the longest idle one. Each is closed after
    `keep_alive` seconds without a request.
    """
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=cast("int", keep_alive),  # only a delay of the loop
        timeout_graceful_shutdown=grace,
        backlog=2048,
    )
    server = Server(config, max_connections=max_connections)
    running = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
    try:
        while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn offers no event for its start
            await asyncio.sleep(0.005)
        yield base_url(listener)
    finally:
        server.should_exit = True
        await running
