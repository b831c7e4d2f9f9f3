"""Detects deliveries that wait for a handler that is not loaded, and reports them."""

from collections.abc import Iterable

import structlog

from service.deliveries.handler_api import Handler
from service.domain.ports.queues import DeliveryQueue

log = structlog.get_logger("boomerang.deliveries")


class MissingHandlerMonitor:
    """Compares the handlers that deliveries wait for with those that are loaded in this process."""

    def __init__(self, queue: DeliveryQueue, handlers: Iterable[Handler]) -> None:
        self._queue = queue
        self._loaded = frozenset(name for handler in handlers for name in handler.names)
        self._logged: frozenset[str] = frozenset()

    async def check(self) -> frozenset[str]:
        """Log each handler that is newly missing since the last check; return all missing ones.

        Another process may have loaded it, so the deliveries stay as they are. Raises StoreUnavailable.
        """
        missing = frozenset(await self._queue.pending_handlers()) - self._loaded
        for name in sorted(missing - self._logged):
            log.warning(
                "deliveries pending for a handler that is not loaded",
                handler=name,
                hint="load it in a worker, or add its name to the aliases of the handler that replaces it",
            )
        self._logged = missing
        return missing
