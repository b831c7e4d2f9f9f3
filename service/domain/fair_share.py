"""Divides the slots of a handler, and the turns of submissions, between clients. Only computes."""

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar


def share_owner(client: str, target: Mapping[str, object]) -> str | None:
    """Return the client whose share a delivery takes its slot from; None where no request named a target."""
    return client if target else None


@dataclass(kw_only=True)
class FairShare:
    """The free slots of a handler, and how many each client holds.

    The rule of dynamic thresholds (Choudhury and Hahne, 1998): a client may take another slot only while it holds fewer
    than are free. Of 32 slots the first client gets at most 16, then a second one 8, a third one 4: the next client
    always finds a free slot, without any setting for the number of clients.
    """

    free: int
    held: Counter[str] = field(default_factory=Counter)

    def may_take(self, client: str | None) -> bool:
        """Return whether a slot is free: for a `client` within its share, for None any free slot."""
        return self.free > (0 if client is None else self.held[client])

    def take(self, client: str | None) -> bool:
        """Take a slot if one is free; return whether it was."""
        if not self.may_take(client):
            return False
        self.free -= 1
        if client is not None:
            self.held[client] += 1
        return True

    def served(self) -> set[str]:
        """Return the clients that hold their whole share."""
        return {client for client, held in self.held.items() if held >= self.free}


C = TypeVar("C")


def choose_in_turn(queues: Sequence[Sequence[C]], take: Callable[[C], bool], limit: int) -> list[C]:
    """Return up to `limit` items for which `take` is true: one of each queue, in order, before a second one of any.

    A queue whose next item is not taken gets no further turn, so that the order within it is kept.
    """
    chosen: list[C] = []
    waiting = deque(deque(queue) for queue in queues if queue)
    while waiting and len(chosen) < limit:
        queue = waiting.popleft()
        if take(queue[0]):
            chosen.append(queue.popleft())
            if queue:
                waiting.append(queue)
    return chosen
