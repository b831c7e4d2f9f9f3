"""HTTP clients for callbacks and image downloads: the loopback client for plain HTTP, httpx for everything else."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from service.sandbox.loopback_http import LoopbackHttp


@dataclass(frozen=True, slots=True)
class HttpClients:
    """Send requests. `anywhere` means that the caller brought the transport and is responsible for its targets."""

    http: httpx.AsyncClient
    plain: LoopbackHttp
    anywhere: bool

    async def send(self, method: str, url: str, *, body: bytes, headers: Mapping[str, str], seconds: float) -> int:
        """Send and return the response's status; raise `OSError` or `httpx.HTTPError` without a response."""
        if url.startswith("http://") and not self.anywhere:
            return await self.plain.send(method, url, body=body, headers=headers, seconds=seconds)
        try:
            response = await self.http.request(method, url, content=body, headers=headers, timeout=seconds)
        except httpx.InvalidURL as error:
            raise ConnectionError("not a valid address") from error
        return response.status_code


@asynccontextmanager
async def open_clients(transport: httpx.AsyncBaseTransport | None) -> AsyncIterator[HttpClients]:
    """Open the clients over the given transport, or over the network, and close them at the end."""
    plain = LoopbackHttp()
    try:
        async with httpx.AsyncClient(transport=transport, trust_env=False) as http:
            yield HttpClients(http, plain, anywhere=transport is not None)
    finally:
        await plain.close()
