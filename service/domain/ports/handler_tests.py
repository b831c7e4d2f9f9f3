"""Test events of handlers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, kw_only=True)
class HandlerTestResult:
    """How the attempt of a test event ended (`delivered`, `retry` or `dead`), its error, and how long it took."""

    handler: str
    event: str
    outcome: Literal["delivered", "retry", "dead"]
    error: str | None
    seconds: float


class HandlerTester(Protocol):
    """Sends test events through handlers."""

    async def send(
        self, name: str, *, target: Mapping[str, object] | None = None, event_type: str | None = None
    ) -> HandlerTestResult:
        """Run the handler `name` once for a marked sample event; nothing is stored.

        `target` is what its `notify` entry has beside `handler`. Raises NotFound for a handler that is not loaded,
        Conflict where it cannot be tested so, InvalidParams for a target with faults.
        """
