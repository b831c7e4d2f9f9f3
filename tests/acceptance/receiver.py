"""A webhook receiver for tests that records webhooks and verifies their signatures."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anyio
from standardwebhooks.webhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.server import listen, serving
from tests.acceptance.processes import HOST, until


@dataclass(frozen=True, kw_only=True)
class ReceivedWebhook:
    """A received webhook: its id and its verified body."""

    id: str
    body: dict[str, Any]


@dataclass(kw_only=True)
class Receiver:
    """Accepts webhooks signed with `secret`; errors of invalid signatures are in `refused`.

    It takes `pause` seconds for each.
    With `ignore_time` a webhook is valid at any time of signature, because the clock of the sender may be wrong.
    """

    url: str
    secret: str
    ignore_time: bool = False
    pause: float = 0.0
    hooks: list[ReceivedWebhook] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def ids(self) -> set[str]:
        """Return the ids of all webhooks; a second delivery of the same one adds none."""
        return {hook.id for hook in self.hooks}

    async def take(self, request: Request) -> Response:
        """Take one webhook."""
        try:
            raw = await request.body()
        except ClientDisconnect:  # the sender was killed half-way
            return Response(status_code=400)
        await anyio.sleep(self.pause)
        try:
            body = self._verified(raw, dict(request.headers))
        except Exception as error:  # noqa: BLE001 - tests check every error of the library
            self.refused.append(str(error))
            return Response(status_code=401)
        self.hooks.append(ReceivedWebhook(id=request.headers["webhook-id"], body=body))
        return Response(status_code=204)

    def _verified(self, raw: bytes, headers: dict[str, str]) -> Any:
        hook = Webhook(self.secret)
        if not self.ignore_time:
            return hook.verify(raw, headers)
        signed_at = datetime.fromtimestamp(float(headers["webhook-timestamp"]), UTC)
        if hook.sign(headers["webhook-id"], signed_at, raw.decode()) not in headers["webhook-signature"].split():
            raise ValueError("no valid signature")
        return json.loads(raw)

    async def received(self, event: str) -> ReceivedWebhook:
        """Wait for the first webhook of this event type and return it."""
        await until(lambda: event in {hook.body["type"] for hook in self.hooks}, what=f"the webhook {event}")
        return next(hook for hook in self.hooks if hook.body["type"] == event)


@asynccontextmanager
async def receiving(secret: str, *, ignore_time: bool = False) -> AsyncIterator[Receiver]:
    """Run a receiver inside the block."""
    receiver = Receiver(url="", secret=secret, ignore_time=ignore_time)
    app = Starlette(routes=[Route("/hooks", receiver.take, methods=["POST"])])
    async with serving(app, listen(HOST, 0), grace=1) as base:
        receiver.url = f"{base}/hooks"
        yield receiver
