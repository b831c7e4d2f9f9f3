"""Notices deliveries that wait for a handler which is not loaded, so that they do not wait in silence."""

from collections.abc import Iterable

import structlog

from service.deliveries.handler_api import Handler
from service.domain.ports.queues import DeliveryQueue

log = structlog.get_logger("boomerang.dispatch")


class MissingHandlerMonitor:
    """Compares the handlers that deliveries wait for with those that are loaded in this process."""

    def __init__(self, queue: DeliveryQueue, handlers: Iterable[Handler]) -> None:
        self._queue = queue
        self._known = frozenset(name for handler in handlers for name in handler.names)
        self._told: frozenset[str] = frozenset()

    async def check(self) -> frozenset[str]:
        """Warn of each handler that deliveries have begun to wait for since the last look; return all that are missing.

        Another process may have it loaded: nothing is done to the deliveries. Raises StoreUnavailable.
        """
        missing = frozenset(await self._queue.pending_handlers()) - self._known
        for name in sorted(missing - self._told):
            log.warning(
                "deliveries wait for a handler that is not loaded here",
                handler=name,
                mend="load it in a worker, or name it among the aliases of the one that took its place",
            )
        self._told = missing
        return missing
