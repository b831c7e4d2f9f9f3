"""The pauses and tests of handlers in memory, behind the HTTP API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from service.domain.circuit import Circuit, closed_manually
from service.domain.errors import NotFound
from service.domain.ports.handler_pauses import HandlerPause
from service.domain.ports.handler_tests import HandlerTestResult


def a_circuit(key: str = "c1", **changes: Any) -> Circuit:
    """Return an open circuit."""
    at = datetime(2026, 5, 6, 12, tzinfo=UTC)
    circuit = Circuit(
        key=key,
        handler="webhook",
        host="hooks.example",
        client="ann",
        state="open",
        failures=5,
        failing_since=at,
        opened_at=at,
        retry_at=at,
        changed_at=at,
        last_error="Retry: the receiver answered 500",
    )
    return replace(circuit, **changes)


@dataclass
class FakeHandlers:
    """Implements `HandlerPauses`, `PendingHandlers`, `HandlerTester` and what the API uses of `Circuits`.

    `pending` have pending deliveries.
    """

    pending: list[str] = field(default_factory=list)
    pauses: dict[str, HandlerPause] = field(default_factory=dict)
    circuits: list[Circuit] = field(default_factory=list)
    tests: list[tuple[str, Mapping[str, object] | None, str | None]] = field(default_factory=list)

    async def paused(self) -> dict[str, HandlerPause]:
        """Return the pauses."""
        return dict(self.pauses)

    async def pause(self, handler: str, *, names: Sequence[str], by: str, now: datetime) -> HandlerPause:
        """Pause a handler."""
        return self.pauses.setdefault(handler, HandlerPause(handler=handler, names=tuple(names), since=now, by=by))

    async def resume(self, handler: str) -> bool:
        """Resume a handler."""
        return self.pauses.pop(handler, None) is not None

    async def pending_handlers(self) -> list[str]:
        """Return the handlers with pending deliveries."""
        return self.pending

    async def listed(self, *, limit: int, after: str | None, only_open: bool = False) -> list[Circuit]:
        """Return the circuits by key."""
        found = sorted(
            (each for each in self.circuits if not only_open or each.state == "open"), key=lambda each: each.key
        )
        return [each for each in found if after is None or each.key > after][:limit]

    async def close(self, key: str, *, now: datetime) -> Circuit | None:
        """Close a circuit."""
        found = next((each for each in self.circuits if each.key == key), None)
        if found is None:
            return None
        self.circuits.remove(found)
        return closed_manually(found, now)

    async def send(
        self, name: str, *, target: Mapping[str, object] | None = None, event_type: str | None = None
    ) -> HandlerTestResult:
        """Record the test; `gone` is not loaded."""
        if name == "gone":
            raise NotFound("there is no handler 'gone'")
        self.tests.append((name, target, event_type))
        return HandlerTestResult(
            handler=name, event=event_type or "task.completed", outcome="dead", error="Reject: closed", seconds=0.25
        )
