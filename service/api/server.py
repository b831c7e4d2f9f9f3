"""uvicorn inside a running event loop, without its signal handlers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp

from service.api.http_protocol import BoundedProtocol

KEEP_ALIVE = 30  # seconds


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: the caller of `serving` decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no signal handlers."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """Return a listening TCP socket on `host` and `port` (0 takes a free one); raises OSError when it is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def base_url(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket, *, grace: int = 8) -> AsyncIterator[str]:
    """Serve `app` on `listener` inside the block and yield its URL; running requests get `grace` seconds at the end."""
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=grace,
        backlog=2048,
    )
    server = Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
    try:
        while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn offers no event for its start
            await asyncio.sleep(0.005)
        yield base_url(listener)
    finally:
        server.should_exit = True
        await running
