"""A fair share of a handler's places for each client. Only computes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


def share_owner(client: str, target: Mapping[str, object]) -> str | None:
    """Return the client whose share a delivery's place is taken from; None where no request named a target."""
    return client if target else None


@dataclass(kw_only=True)
class FairShare:
    """The places of a handler that are free, and how many each client holds.

    By the rule of dynamic thresholds (Choudhury and Hahne, 1998) a client may take a further place only while it holds
    fewer than are left free. Of 32 places the first gets 16 at most, a second one 8 then, a third one 4: whoever comes
    next finds a place, and nobody has to be told how many will come.
    """

    free: int
    held: Counter[str] = field(default_factory=Counter)

    def may_take(self, client: str | None) -> bool:
        """Whether there is a place: for a `client` within its share, for what is nobody's any that is free."""
        return self.free > (0 if client is None else self.held[client])

    def take(self, client: str | None) -> bool:
        """Take a place, if there is one; return whether there was."""
        if not self.may_take(client):
            return False
        self.free -= 1
        if client is not None:
            self.held[client] += 1
        return True

    def served(self) -> set[str]:
        """Return the clients that have their share."""
        return {client for client, held in self.held.items() if held >= self.free}
