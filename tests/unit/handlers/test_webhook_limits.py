"""Limits of one webhook: each step of its request, and the body of the response."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from handlers import webhook as webhook_module
from handlers.webhook import webhook
from tests.support.delivery_builders import TIMEOUT, event
from tests.unit.handlers.test_webhook import Receiver


class Stalled(httpx.AsyncByteStream):
    """A body that begins and never goes on."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield one byte, then wait."""
        yield b"x"
        await asyncio.Event().wait()


async def test_acknowledgement_with_a_stalled_body_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that answers 2xx and then holds its body back takes no slot until the timeout of the attempt."""
    monkeypatch.setattr(webhook_module, "DRAIN_TIMEOUT", 0.01)
    async with asyncio.timeout(TIMEOUT):
        await webhook(event(), Receiver(lambda: httpx.Response(200, stream=Stalled())).tools())


async def test_every_step_of_the_request_has_a_time_limit() -> None:
    """Connecting, waiting for a connection, each read and each write end within the timeout of the attempt."""
    receiver = Receiver()
    await webhook(event(), receiver.tools())
    limits = receiver.request.extensions["timeout"]
    assert sorted(limits) == ["connect", "pool", "read", "write"]
    assert all(limit is not None and 0 < limit <= webhook_module.TIMEOUT for limit in limits.values())
