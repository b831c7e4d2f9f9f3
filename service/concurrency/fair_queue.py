"""Divides an amount between clients, for semaphores. Only computes: it neither waits nor locks."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(kw_only=True, eq=False)
class FairRequest:
    """A request for `size` of the amount; `grant`, if any, is called once it is held. The client None has no share."""

    client: str | None
    size: int
    grant: Callable[[], None] | None = None
    granted: bool = False


class FairQueue:
    """An amount of which each client holds a share, and the requests that wait for it.

    The rule of `domain.fair_share` for amounts: a client that holds something gets more only while it then holds no
    more than is left, so that another client always finds something free. It is the turn of the client that was last
    granted something the longest time ago; the requests of one client are granted in their order. A request within its
    share for which not enough is free holds up those of later turns, so that a large one is not overtaken without end.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.free = total
        self._held: Counter[str | None] = Counter()
        self._waiting: dict[str | None, deque[FairRequest]] = {}
        self._unserved = 0
        self._last_grant: dict[str | None, int] = {}  # of the clients that hold something or wait
        self._grants = 0

    def add(self, request: FairRequest) -> None:
        """Let `request` wait, and grant what can be granted. A size above the total counts as the total."""
        request.size = min(request.size, self.total)
        self._unserved += 1
        self._waiting.setdefault(request.client, deque()).append(request)
        self._grant()

    def remove(self, request: FairRequest) -> None:
        """Release what `request` holds, or let it wait no longer; grant what can be granted."""
        if request.granted:
            self.free += request.size
            self._held[request.client] -= request.size
        else:
            self._waiting[request.client].remove(request)
            self._unserved -= 1
        self._grant()
        self._drop(request.client)

    def _grant(self) -> None:
        while self._unserved and (request := self._next()) is not None:
            self._waiting[request.client].popleft()
            self._unserved -= 1
            self._grants += 1
            self._last_grant[request.client] = self._grants
            self.free -= request.size
            self._held[request.client] += request.size
            request.granted = True
            if request.grant:
                request.grant()

    def _next(self) -> FairRequest | None:
        """Return the request whose turn it is, or None if none can be granted now."""
        for client in sorted(self._waiting, key=lambda client: self._last_grant.get(client, 0)):
            queue = self._waiting[client]
            if not queue:
                continue
            held = self._held[client] if client is not None else 0
            if held == 0 or held + queue[0].size <= self.free:
                return queue[0] if queue[0].size <= self.free else None
        return None

    def _drop(self, client: str | None) -> None:
        """Drop a client that neither holds anything nor waits."""
        if not self._held[client] and not self._waiting.get(client):
            for by_client in (self._held, self._waiting, self._last_grant):
                by_client.pop(client, None)
