"""Open the HTTP clients that carry callbacks and image fetches."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import httpx

CONNECTIONS_EACH = 8
_POOLS = 8


@dataclass(frozen=True, slots=True)
class Clients:
    """Hold a few small pools: the cost of picking a connection grows with the size of its pool.

    `anywhere` says that the caller brought the transport, and answers for where it leads.
    """

    pools: tuple[httpx.AsyncClient, ...]
    anywhere: bool

    def of(self, number: int) -> httpx.AsyncClient:
        """Return the client that serves the task of that number."""
        return self.pools[number % len(self.pools)]


Transport: TypeAlias = httpx.AsyncBaseTransport | None


@asynccontextmanager
async def opened(transport: Transport) -> AsyncIterator[Clients]:
    """Open the clients over the given transport, or over the network, and close them at the end."""
    async with AsyncExitStack() as stack:
        if transport is not None:
            only = await stack.enter_async_context(httpx.AsyncClient(transport=transport, trust_env=False))
            yield Clients((only,), anywhere=True)
            return
        limits = httpx.Limits(max_connections=CONNECTIONS_EACH, max_keepalive_connections=CONNECTIONS_EACH)
        context = httpx.create_ssl_context(trust_env=False)
        pools = [httpx.AsyncClient(verify=context, limits=limits, trust_env=False) for _ in range(_POOLS)]
        yield Clients(tuple([await stack.enter_async_context(pool) for pool in pools]), anywhere=False)
