"""Remembers whether the provider could be connected to lately: what an operator must repair is logged once."""

import httpx
import structlog

from service.network.connection_errors import transport_reason

CONNECT_ERRORS = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)

log = structlog.get_logger("boomerang.providers")


class ConnectionHealth(httpx.AsyncBaseTransport):
    """Passes requests to `transport`, and keeps the reason of the last failure to connect until a response arrives.

    The reason has no host, because `/readyz` shows it to everybody.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._problem: str | None = None

    def warnings(self) -> tuple[str, ...]:
        """Return why the provider cannot be connected to, as one line; nothing while it can."""
        return (f"provider: {self._problem}",) if self._problem else ()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; raises the errors of the transport."""
        try:
            response = await self._transport.handle_async_request(request)
        except CONNECT_ERRORS as error:
            self._note(transport_reason(error), error)
            raise
        if self._problem:
            log.info("provider connection restored")
        self._problem = None
        return response

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()

    def _note(self, reason: str, error: httpx.TransportError) -> None:
        if reason != self._problem:
            log.warning("provider connection failed", reason=reason, error=str(error)[:500])
        self._problem = reason
