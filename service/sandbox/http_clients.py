"""Open what carries callbacks and image fetches: plain HTTP where loopback allows it, an HTTP client for the rest."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from service.sandbox.loopback_http import LoopbackHttp


@dataclass(frozen=True, slots=True)
class HttpClients:
    """Carry requests; `anywhere` says that the caller brought the transport, and answers for where it leads."""

    http: httpx.AsyncClient
    plain: LoopbackHttp
    anywhere: bool

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str], seconds: float) -> int:
        """Post and return the answer's status; raise `OSError` or `httpx.HTTPError` when none came."""
        if url.startswith("http://") and not self.anywhere:
            return await self.plain.post(url, body=body, headers=headers, seconds=seconds)
        try:
            answer = await self.http.post(url, content=body, headers=headers, timeout=seconds)
        except httpx.InvalidURL as fault:
            raise ConnectionError("no address that can be dialled") from fault
        return answer.status_code


@asynccontextmanager
async def opened(transport: httpx.AsyncBaseTransport | None) -> AsyncIterator[HttpClients]:
    """Open the clients over the given transport, or over the network, and close them at the end."""
    plain = LoopbackHttp()
    try:
        async with httpx.AsyncClient(transport=transport, trust_env=False) as http:
            yield HttpClients(http, plain, anywhere=transport is not None)
    finally:
        await plain.close()
