"""What the provider's answers say about our key. Only computes."""

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class KeyAnswers:
    """How many answers to this process accepted and rejected the provider's key, and whether the last one did."""

    accepted: int = 0
    rejected: int = 0
    last_rejected: bool = False

    def accept(self) -> None:
        """Count a submission, poll or other request that succeeded."""
        self.accepted += 1
        self.last_rejected = False

    def reject(self) -> None:
        """Count a refusal for the key."""
        self.rejected += 1
        self.last_rejected = True
