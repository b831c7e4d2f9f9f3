"""Finding tasks by their words."""

from typing import Protocol


class SearchIndex(Protocol):
    """The words of tasks."""

    async def advance(self) -> int:
        """Read the next events and write the words of their tasks; return how many events were read."""
