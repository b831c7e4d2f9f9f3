"""Providers with scripted responses, without a network."""

from collections.abc import Callable
from typing import Any

import httpx

from service.domain.ports.provider import ProviderRequest
from service.providers import Vidu, Vtrix

KEY = "sk-very-secret-key-of-tests"
Reply = Callable[[httpx.Request], httpx.Response]


def provider_request(**params: Any) -> ProviderRequest:
    """Return a request for the one model, with tokens."""
    return ProviderRequest(
        model="viduq2_pro_reference",
        params={"prompt": "a cat", **params},
        payload="token-1",
        meta_data='{"boomerang_task": "t1"}',
        callback_url="https://example.org/callbacks/abc",
    )


class MockProvider:
    """A provider behind a mock transport; `seen` holds the requests."""

    def __init__(self, reply: Reply | httpx.Response | Exception) -> None:
        self.seen: list[httpx.Request] = []
        self._reply = reply
        self.transport = httpx.MockTransport(self._respond)

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if isinstance(self._reply, Exception):
            raise self._reply
        return self._reply if isinstance(self._reply, httpx.Response) else self._reply(request)

    def vtrix(self) -> Vtrix:
        """Return the Vtrix adapter of this provider."""
        return Vtrix(self.transport, base_url="https://vtrix.test/", key=KEY)

    def vidu(self) -> Vidu:
        """Return the Vidu adapter of this provider."""
        return Vidu(self.transport, base_url="https://vidu.test/ent/v2", key=KEY)
