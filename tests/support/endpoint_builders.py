"""Builders for tests of endpoints: the use cases over a store, and new endpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from service.domain.endpoint import Endpoint
from service.domain.key_ring import KeyRing
from service.domain.ports.signals import Clock
from service.storage import Store
from service.tasks.endpoint_targets import EndpointTargets
from service.tasks.endpoints import EndpointService, NewEndpoint
from service.tasks.missed_replay import MissedReplay
from service.tasks.secret_sealer import SecretSealer

KEY = "k" * 40
URL = "https://hooks.example.org/boomerang?tenant=7"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def any_address(_: str) -> str | None:
    """Allow every address."""
    return None


@dataclass(kw_only=True)
class EndpointUseCases:
    """The use cases of endpoints over one store."""

    service: EndpointService
    targets: EndpointTargets
    missed: MissedReplay

    async def create(self, client: str = "anna", **fields: Any) -> Endpoint:
        """Create an endpoint; by default for all events, with SECRET."""
        endpoint, _ = await self.service.create(
            NewEndpoint(**{"client": client, "url": URL, "secret": SECRET} | fields)
        )
        return endpoint


def endpoint_use_cases(
    store: Store,
    clock: Clock,
    *,
    keys: KeyRing | None = None,
    refusal: Callable[[str], str | None] = any_address,
    new_id: Callable[[], str] | None = None,
) -> EndpointUseCases:
    """Return the use cases over `store`; ids are numbered unless `new_id` is given."""
    numbers = count(1)
    secrets = SecretSealer(
        store=store.sealed_secrets, keys=keys or KeyRing([KEY]), new_id=lambda: f"secret-{next(numbers)}"
    )
    new_id = new_id or (lambda: f"{next(numbers):08d}")
    return EndpointUseCases(
        service=EndpointService(
            endpoints=store.endpoints,
            sealer=secrets,
            clock=clock,
            new_id=new_id,
            new_secret=lambda: OTHER_SECRET,
            refusal=refusal,
        ),
        targets=EndpointTargets(endpoints=store.endpoints, sealer=secrets, clock=clock),
        missed=MissedReplay(endpoints=store.endpoints, replays=store.replays, clock=clock, new_id=new_id),
    )
