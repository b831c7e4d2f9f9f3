"""The use cases of endpoints over a dictionary, for tests of the API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from service.domain.endpoint import Endpoint
from service.domain.endpoint_secrets import EndpointSecrets
from service.domain.errors import Conflict
from service.domain.key_ring import KeyRing
from service.domain.ports.endpoints import EndpointTestResult, MissedEvent
from service.domain.ports.queues import ReceiverAnswer
from service.domain.ports.replays import Replayer
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import DeliveryRow
from service.domain.task import TaskId
from service.tasks.endpoints import EndpointService
from service.tasks.missed_replay import MissedReplay
from service.tasks.secret_sealer import SecretSealer
from tests.support.endpoint_builders import KEY, OTHER_SECRET, SECRET, URL

REFUSED = "https://internal.example/hook"


def refusal(address: str) -> str | None:
    """Refuse one address."""
    return "leads to an internal address" if address == REFUSED else None


class _NoSecrets:
    """No task has a secret."""

    async def load(self, ids: Sequence[str]) -> dict[str, str]:
        """Return none."""
        assert ids
        return {}


SEALER = SecretSealer(store=_NoSecrets(), keys=KeyRing([KEY]), new_id=lambda: "secret-1")
CREATED = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)


def an_endpoint(endpoint_id: str = "endpoint-1", **changes: Any) -> Endpoint:
    """Return an endpoint of the client `local`."""
    secrets = EndpointSecrets(secret=SECRET, headers={"X-Key": "of-local"})
    endpoint = Endpoint(
        id=endpoint_id,
        client="local",
        url=URL,
        header_names=("X-Key",),
        sealed=SEALER.seal_text(secrets.to_text()),
        created_at=CREATED,
        updated_at=CREATED,
    )
    return replace(endpoint, **changes)


@dataclass
class FakeEndpoints:
    """Implements `Endpoints` and `EndpointTester`; `tested` are the endpoints that got a test event."""

    rows: dict[str, Endpoint] = field(default_factory=dict)
    tested: list[str] = field(default_factory=list)
    added: list[DeliveryRow] = field(default_factory=list)
    missed_events: list[MissedEvent] = field(
        default_factory=lambda: [MissedEvent(seq=7, id="event-7", task_id=TaskId("task-1"))]
    )

    async def add(self, endpoint: Endpoint, *, limit: int) -> None:
        """Store an endpoint."""
        if len([each for each in self.rows.values() if each.client == endpoint.client]) >= limit:
            raise Conflict(f"at most {limit}")
        self.rows[endpoint.id] = endpoint

    async def get(self, endpoint_id: str) -> Endpoint | None:
        """Return one endpoint."""
        return self.rows.get(endpoint_id)

    async def listed(self, *, client: str | None, limit: int, cursor: str | None) -> list[Endpoint]:
        """Return endpoints, the last added first."""
        rows = [each for each in reversed(self.rows.values()) if client in (None, each.client)]
        start = [each.id for each in rows].index(cursor) + 1 if cursor else 0
        return rows[start : start + limit]

    async def change(self, endpoint_id: str, values: Mapping[str, Any], *, sealed: str | None = None) -> bool:
        """Change fields of an endpoint and of its health."""
        found = self.rows.get(endpoint_id)
        if found is None or sealed not in (None, found.sealed):
            return False
        health = replace(found.health, **{name: value for name, value in values.items() if hasattr(found.health, name)})
        tuples = {name: tuple(values[name]) for name in ("events", "header_names") if name in values}
        own = {name: value for name, value in values.items() if hasattr(found, name)}
        self.rows[endpoint_id] = replace(found, **own | tuples, health=health)
        return True

    async def remove(self, endpoint_id: str, *, now: datetime) -> bool:
        """Delete an endpoint."""
        assert now.tzinfo
        return self.rows.pop(endpoint_id, None) is not None

    async def wake(self, *, now: datetime) -> int:
        """Wake nothing."""
        assert now.tzinfo
        return 0

    async def to_seal_again(self, *, key_id: str, now: datetime, limit: int) -> list[Endpoint]:
        """Return none."""
        assert key_id
        assert now.tzinfo
        assert limit
        return []

    async def missed(
        self, endpoint: Endpoint, *, since: datetime, until: datetime | None, after: int | None, limit: int
    ) -> tuple[list[MissedEvent], int | None]:
        """Return the missed events on one page."""
        assert endpoint.id in self.rows
        assert until is None or since < until
        assert limit
        return [each for each in self.missed_events if each.seq > (after or 0)], None

    async def add_missed(self, rows: Sequence[DeliveryRow]) -> int:
        """Record deliveries."""
        self.added += rows
        return len(rows)

    async def send(self, endpoint: Endpoint) -> EndpointTestResult:
        """Record a test."""
        self.tested.append(endpoint.id)
        answer = ReceiverAnswer(status=500, body="oops")
        return EndpointTestResult(
            message_id="msg_test_1", seconds=0.25, error="Retry: the receiver answered 500", answer=answer
        )


def endpoint_parts(endpoints: FakeEndpoints, *, clock: Clock, replays: Replayer) -> dict[str, Any]:
    """Return the services of the API that endpoints need."""
    numbers = count(1)
    service = EndpointService(
        endpoints=endpoints,
        sealer=SEALER,
        clock=clock,
        new_id=lambda: str(next(numbers)),
        new_secret=lambda: OTHER_SECRET,
        refusal=refusal,
    )
    missed = MissedReplay(endpoints=endpoints, replays=replays, clock=clock, new_id=lambda: f"delivery-{next(numbers)}")
    return {"endpoints": service, "missed_replay": missed, "endpoint_tester": endpoints}
