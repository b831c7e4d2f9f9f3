"""Reads an endpoint for an attempt: its address, its secrets and its headers as they are then."""

from dataclasses import dataclass, field
from datetime import datetime

from service.domain.endpoint import DELETED, DISABLED
from service.domain.endpoint_secrets import EndpointSecrets
from service.domain.errors import Reject
from service.domain.event_routing import WEBHOOK
from service.domain.ports.endpoints import EndpointReader
from service.domain.ports.signals import Clock
from service.domain.task import Json
from service.tasks.callback_bodies import CallbackBodies
from service.tasks.secret_sealer import SecretSealer


@dataclass(frozen=True, kw_only=True)
class OpenedEndpoint:
    """The target of an attempt at an endpoint, as it is since `updated_at`."""

    target: Json = field(repr=False)
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointTargets:
    """Completes the targets of deliveries to endpoints, so that a changed address or secret applies to all of them.

    `callback_bodies` completes other targets, those that have a form.
    """

    endpoints: EndpointReader
    sealer: SecretSealer
    clock: Clock
    callback_bodies: CallbackBodies | None = None

    async def open(self, endpoint_id: str) -> OpenedEndpoint | None:
        """Return what a delivery to this endpoint is sent to, None while it is paused.

        Raises Reject for one that is deleted or disabled, BadSetting for one that an unknown key sealed.
        """
        endpoint = await self.endpoints.get(endpoint_id)
        if endpoint is None:
            raise Reject(DELETED)
        if endpoint.paused:
            return None
        if endpoint.disabled_at:
            raise Reject(f"{DISABLED} ({endpoint.disabled_reason})")
        target = self.target(endpoint.id, endpoint.url, endpoint.sealed)
        return OpenedEndpoint(target=target, updated_at=endpoint.updated_at)

    def target(self, endpoint_id: str, url: str, sealed: str) -> Json:
        """Return the target with the secrets that sign now and the headers."""
        secrets = EndpointSecrets.from_text(self.sealer.open_text(sealed))
        return {
            "handler": WEBHOOK,
            "endpoint": endpoint_id,
            "url": url,
            "secrets": secrets.signing(self.clock.now()),
            "headers": dict(secrets.headers),
        }
