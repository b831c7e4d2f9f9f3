"""The demo environment in one process on loopback: the stand-in provider, a webhook receiver and the service."""

import asyncio
import logging
import random
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.server import listen, serving
from service.cli import UsageError
from service.cli.api_client import Client
from service.runtime.config.required_settings import ensure_secret_keys
from service.runtime.config.settings import load_settings
from service.runtime.log_config import configure_logging
from service.runtime.process import running
from service.sandbox import Sandbox, Switches

HOST = "127.0.0.1"
OWN_DIRECTORY = "boomerang-demo"
DATABASE, LOG = "demo.db", "demo.log"

HANDLERS = ("log", "webhook", "archive")
RUN_SECONDS = 4.0


@dataclass(frozen=True, kw_only=True)
class DemoEnvironment:
    """A running demo: the client of the service, the webhook receiver and the address of the stand-in provider."""

    client: Client
    receiver: "Receiver"
    provider_url: str


class Receiver:
    """A webhook receiver; `events` lists the types of verified webhooks, `refused` counts invalid signatures."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.refused = 0
        self._verifiers: tuple[Webhook, ...] = ()
        self._received = asyncio.Event()
        self.app = Starlette(routes=[Route("/events", self._receive, methods=["POST"])])

    def set_secrets(self, webhook_secrets: Sequence[str]) -> None:
        """Accept webhooks that are signed with one of these secrets."""
        self._verifiers = tuple(Webhook(secret) for secret in webhook_secrets)

    async def wait_for(self, event: str, *, seconds: float) -> None:
        """Wait until a webhook of type `event` is received. Raises TimeoutError after `seconds`."""
        async with asyncio.timeout(seconds):
            while event not in self.events:
                self._received.clear()
                await self._received.wait()

    async def _receive(self, request: Request) -> Response:
        body = await request.body()
        if not any(_is_signed(verifier, body, request) for verifier in self._verifiers):
            self.refused += 1
            return Response(status_code=401)
        self.events.append((await request.json())["type"])
        self._received.set()
        return Response(status_code=204)


def _is_signed(verifier: Webhook, body: bytes, request: Request) -> bool:
    try:
        verifier.verify(body, dict(request.headers))
    except WebhookVerificationError:
        return False
    return True


@asynccontextmanager
async def demo_environment(directory: Path, *, lose_callbacks: bool) -> AsyncIterator[DemoEnvironment]:
    """Run the environment inside the block, with a new database; its video goes into `directory`.

    Raises UsageError while another demo runs there.
    """
    key = secrets.token_urlsafe()
    switches = Switches(key=key, run_time=RUN_SECONDS, callbacks=not lose_callbacks)
    sandbox = Sandbox(switches, now=lambda: datetime.now(UTC), random=random.SystemRandom())
    receiver = Receiver()
    async with AsyncExitStack() as stack:
        stack.enter_context(_logging_to(own_directory(directory) / LOG))
        _remove_old_database(own_directory(directory))
        await stack.enter_async_context(sandbox.running())
        provider_url = await stack.enter_async_context(serving(sandbox.app, listen(HOST, 0)))
        receiver_url = await stack.enter_async_context(serving(receiver.app, listen(HOST, 0)))
        port = _free_port()
        environ = _environ(directory, provider_url, receiver_url, port, key=key, lose_callbacks=lose_callbacks)
        settings = ensure_secret_keys(load_settings(environ))
        receiver.set_secrets(settings.webhook_secrets)
        url = await stack.enter_async_context(running(settings, host=HOST, port=port))
        client = await stack.enter_async_context(Client(url))
        yield DemoEnvironment(client=client, receiver=receiver, provider_url=provider_url)


def own_directory(directory: Path) -> Path:
    """Return where the demo overwrites files: `directory`, or one in it if it may have files of somebody else."""
    return directory if directory.name == OWN_DIRECTORY else directory / OWN_DIRECTORY


def _remove_old_database(directory: Path) -> None:
    for file in directory.glob(f"{DATABASE}*"):
        file.unlink()


def _environ(
    directory: Path, provider_url: str, receiver_url: str, port: int, *, key: str, lose_callbacks: bool
) -> dict[str, str]:
    """Return the settings of the demo. The environment of the process is ignored."""
    settings = {
        "UPSTREAM_URL": provider_url,
        "UPSTREAM_KEY": key,
        "PUBLIC_URL": f"http://{HOST}:{port}",
        "DATABASE_URL": f"sqlite:///{quote(str(own_directory(directory) / DATABASE))}",
        "HANDLERS": ",".join(HANDLERS),
        "WEBHOOK_URL": f"{receiver_url}/events",
        "ARCHIVE_URL": directory.as_uri(),
        "EGRESS_ALLOW": "127.0.0.0/8",
        "NOTIFY_ALLOW": "127.0.0.0/8",
        "RETRY_SCHEDULE": "0s,1s,2s,5s",
        # with callbacks, one poll half-way for the progress bar
        "POLL_FIRST": "1s" if lose_callbacks else "2s",
        "POLL_MAX": "2s" if lose_callbacks else "30s",
    }
    return {f"BOOMERANG_{name}": value for name, value in settings.items()}


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Write log lines to the file at `path` instead of the terminal inside the block.

    Raises UsageError if the file belongs to another demo that runs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with path.open("a", encoding="utf-8") as file:
        _lock(file, path.parent)
        file.truncate(0)
        configure_logging("json", "info")
        (handler,) = root.handlers
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(file)
        try:
            yield
        finally:
            root.handlers, root.level = handlers, level


def _lock(file: TextIO, directory: Path) -> None:
    """Lock the open file until it is closed. Raises UsageError if another process has locked it."""
    if sys.platform == "win32":
        return
    import fcntl  # noqa: PLC0415 - not on every platform

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"another demo runs in {directory}; stop it, or name another directory with --dir") from None
    except OSError:  # a file system without locks
        return
