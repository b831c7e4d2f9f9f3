"""The standing webhook addresses of clients: create, change, pause, delete, and replace the secret."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import structlog

from service.domain.endpoint import MAX_ENDPOINTS, Endpoint
from service.domain.endpoint_fields import (
    description_faults,
    event_faults,
    header_faults,
    rate_faults,
    secret_faults,
    url_faults,
)
from service.domain.endpoint_secrets import EndpointSecrets
from service.domain.errors import BadSetting, Conflict, Fault, InvalidParams, NotFound
from service.domain.notify import AddressCheck
from service.domain.ports.endpoints import Endpoints
from service.domain.ports.signals import Clock
from service.tasks.secret_sealer import SecretSealer

CHANGED_MEANWHILE = "the endpoint was changed by another request at this moment: try again"

UNREADABLE = (
    "the secrets of this endpoint were sealed with a key that BOOMERANG_SECRET_KEYS lacks: "
    "the operator adds it again, or you delete the endpoint and make it anew"
)

NOT_FOR_CLIENTS = (
    "endpoints are webhooks, which clients may not use here: BOOMERANG_NOTIFY_HANDLERS of the operator lacks webhook"
)

PLAIN_FIELDS = ("url", "description", "paused", "rate")
"""Fields that are stored as they are given."""

SEALED_AT_ONCE = 500
"""Endpoints that are sealed again in one run of the job."""

log = structlog.get_logger("boomerang.tasks")


@dataclass(frozen=True, kw_only=True)
class NewEndpoint:
    """The fields of a new endpoint as the client gives them: `events` None for all, `secret` None for a new one."""

    client: str
    url: str = field(repr=False)
    events: list[str] | None = None
    description: str = ""
    secret: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    rate: str | None = None


@dataclass(frozen=True, kw_only=True)
class EndpointChanges:
    """The fields to change, by name: those of a request's body. Values are checked, `headers` replaces all of them."""

    given: Mapping[str, Any] = field(repr=False)


@dataclass(kw_only=True, slots=True, eq=False)
class EndpointService:
    """Manages endpoints.

    `refusal` returns why an address is never dialled, or None. `new_secret` makes a webhook secret. `enabled`: the
    webhook handler is loaded in some process; `for_clients`: clients may use it. `is_admin` returns whether a client is
    an admin, who always may, and may ask for operator events.
    """

    endpoints: Endpoints
    sealer: SecretSealer
    clock: Clock
    new_id: Callable[[], str]
    new_secret: Callable[[], str]
    refusal: AddressCheck
    enabled: bool = True
    for_clients: bool = True
    is_admin: Callable[[str], bool] = lambda _: False
    _unreadable: frozenset[str] = field(init=False, default=frozenset())

    async def create(self, new: NewEndpoint) -> tuple[Endpoint, str]:
        """Store a new endpoint; return it and its secret. Raises InvalidParams with every fault, or Conflict."""
        if not self.enabled:
            raise Conflict("endpoints need the webhook handler, which is not loaded here: add it to BOOMERANG_HANDLERS")
        self._require_permission(new.client)
        faults = [
            *url_faults(new.url, self.refusal),
            *event_faults(new.events, operator=self.is_admin(new.client)),
            *description_faults(new.description),
            *(secret_faults(new.secret) if new.secret is not None else ()),
            *header_faults(new.headers),
            *rate_faults(new.rate),
        ]
        if faults:
            raise InvalidParams(faults)
        secret = new.secret or self.new_secret()
        now = self.clock.now()
        endpoint = Endpoint(
            id=f"ep_{self.new_id()}",
            client=new.client,
            url=new.url,
            events=tuple(new.events or ()),
            description=new.description,
            rate=new.rate,
            header_names=tuple(new.headers),
            created_at=now,
            updated_at=now,
            **self._sealed(EndpointSecrets(secret=secret, headers=dict(new.headers))),
        )
        await self.endpoints.add(endpoint, limit=MAX_ENDPOINTS)
        return endpoint, secret

    async def change(self, endpoint: Endpoint, changes: EndpointChanges) -> Endpoint:
        """Change an endpoint and return it. Raises InvalidParams with every fault, NotFound or Conflict.

        Enabling it resets the count of failures; resuming it makes what waited due.
        """
        given, now = changes.given, self.clock.now()
        if "url" in given:
            self._require_permission(endpoint.client)
        faults = self._faults(given, endpoint.client)
        if faults:
            raise InvalidParams(faults)
        values: dict[str, Any] = {name: given[name] for name in PLAIN_FIELDS if name in given}
        if "events" in given:
            values["events"] = list(given["events"] or ())
        if "headers" in given:
            secrets = replace(self._opened(endpoint).without_expired(now), headers=dict(given["headers"]))
            values |= {"header_names": list(given["headers"]), **self._sealed(secrets)}
        if given.get("disabled") is False and endpoint.disabled_at:
            values |= {"disabled_at": None, "disabled_reason": None, "consecutive_failures": 0, "failing_since": None}
        sealed = endpoint.sealed if "headers" in given else None
        await self._change(endpoint, values, sealed=sealed)
        if given.get("paused") is False:
            await self.wake()
        return await self.get(endpoint.id)

    def _require_permission(self, client: str) -> None:
        """Raise Conflict if `client` may name no address for webhooks: an endpoint is one that stands."""
        if not (self.for_clients or self.is_admin(client)):
            raise Conflict(NOT_FOR_CLIENTS)

    def _faults(self, given: Mapping[str, Any], client: str) -> list[Fault]:
        faults: list[Fault] = []
        if "url" in given:
            faults += url_faults(given["url"], self.refusal)
        if "events" in given:
            faults += event_faults(given["events"], operator=self.is_admin(client))
        if "description" in given:
            faults += description_faults(given["description"])
        if "headers" in given:
            faults += header_faults(given["headers"])
        if "rate" in given:
            faults += rate_faults(given["rate"])
        return faults

    async def rotate(self, endpoint: Endpoint, secret: str | None, overlap: timedelta) -> tuple[Endpoint, str]:
        """Give an endpoint a new secret, and return both; the last one signs during `overlap` too.

        Raises InvalidParams, NotFound or Conflict.
        """
        if secret is not None and (faults := secret_faults(secret)):
            raise InvalidParams(faults)
        secret = secret or self.new_secret()
        secrets = self._opened(endpoint).rotated(secret, self.clock.now(), overlap)
        await self._change(endpoint, self._sealed(secrets), sealed=endpoint.sealed)
        return await self.get(endpoint.id), secret

    async def remove(self, endpoint_id: str) -> None:
        """Delete an endpoint; what waits for it is dropped. Raises NotFound."""
        if not await self.endpoints.remove(endpoint_id, now=self.clock.now()):
            raise _not_found()

    async def get(self, endpoint_id: str) -> Endpoint:
        """Return one endpoint; raises NotFound."""
        endpoint = await self.endpoints.get(endpoint_id)
        if endpoint is None:
            raise _not_found()
        return endpoint

    async def listed(self, *, client: str | None, limit: int, cursor: str | None) -> list[Endpoint]:
        """Return endpoints, newest first."""
        return await self.endpoints.listed(client=client, limit=limit, cursor=cursor)

    async def wake(self) -> int:
        """Make deliveries due whose endpoint was resumed; return how many. A job repeats it."""
        return await self.endpoints.wake(now=self.clock.now())

    async def seal_again(self) -> int:
        """Seal what an older key sealed, and erase secrets that no longer sign; return how many endpoints changed.

        Endpoints stay for years: without this their secrets would be lost with the key that sealed them.
        """
        if not self.sealer.registered():
            return 0
        now, changed, unreadable = self.clock.now(), 0, set[str]()
        key_id = self.sealer.keys.signing_fingerprint
        for endpoint in await self.endpoints.to_seal_again(key_id=key_id, now=now, limit=SEALED_AT_ONCE):
            try:
                values = self._sealed(self._open(endpoint).without_expired(now))
            except BadSetting:
                unreadable.add(endpoint.id)
                continue
            changed += await self.endpoints.change(endpoint.id, values, sealed=endpoint.sealed)
        if unreadable - self._unreadable:
            log.warning("endpoints were sealed with an unknown key", endpoints=sorted(unreadable), hint=UNREADABLE)
        self._unreadable = frozenset(unreadable)
        return changed

    def _open(self, endpoint: Endpoint) -> EndpointSecrets:
        return EndpointSecrets.from_text(self.sealer.open_text(endpoint.sealed))

    def _opened(self, endpoint: Endpoint) -> EndpointSecrets:
        """Return the secrets of an endpoint that a client changes; raises Conflict if no key opens them."""
        try:
            return self._open(endpoint)
        except BadSetting:
            raise Conflict(UNREADABLE) from None

    def _sealed(self, secrets: EndpointSecrets) -> dict[str, Any]:
        """Return the columns that hold `secrets`; raises StoreUnavailable while this process may not seal."""
        return {
            "sealed": self.sealer.seal_text(secrets.to_text()),
            "key_id": self.sealer.keys.signing_fingerprint,
            "old_secrets_until": secrets.old_until(self.clock.now()),
        }

    async def _change(self, endpoint: Endpoint, values: Mapping[str, Any], *, sealed: str | None) -> None:
        now = max(self.clock.now(), endpoint.updated_at + timedelta(microseconds=1))  # each change has its own time
        if not await self.endpoints.change(endpoint.id, {**values, "updated_at": now}, sealed=sealed):
            await self.get(endpoint.id)
            raise Conflict(CHANGED_MEANWHILE)


def _not_found() -> NotFound:
    return NotFound("there is no such endpoint")
