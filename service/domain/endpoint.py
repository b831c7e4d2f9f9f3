"""Standing webhook addresses of clients: their health, and when one is disabled. Only computes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from service.domain.event_routing import EVENT_NAMES, WEBHOOK, DeliveryRoute, Subscription, lane_key, target_host
from service.domain.task import EventType, Json

MAX_ENDPOINTS = 50
"""Endpoints of one client."""

MAX_OLD_SECRETS = 4
"""Replaced secrets that still sign beside the newest one."""

DISABLE_AFTER = timedelta(days=5)
"""Time of failures only after which an endpoint is disabled."""

MAX_FAILURE_GAP = timedelta(days=2)
"""A pause between two failures that ends the time of failures: no event says that it failed meanwhile."""

MIN_FAILURES = 10
"""Failures without a success before an endpoint is disabled."""

RECENT = 100
"""Attempts whose outcomes are counted."""

GONE = 410
"""The HTTP status with which a receiver says that its address is no longer used."""

SCHEME = "endpoint+"
"""Prefix of the scheme in the target of a delivery to an endpoint.

The previous release, which knows no endpoints, refuses to dial such an address and tries again later.
"""

DELETED = "dropped: the endpoint was deleted"
DISABLED = "the endpoint is disabled"

DisabledReason = Literal["gone", "failing"]
"""Why an endpoint was disabled: its receiver answered 410, or every attempt failed for DISABLE_AFTER."""


@dataclass(frozen=True, kw_only=True)
class EndpointHealth:
    """What the attempts to an endpoint say about it.

    `recent` has a `+` or `-` for each of the last attempts, the newest last. `failing_since` is the time of the first
    failure after the last success.
    """

    last_success_at: datetime | None = None
    last_failure_at: datetime | None = None
    last_failure_status: int | None = None
    last_failure_error: str | None = None
    consecutive_failures: int = 0
    failing_since: datetime | None = None
    recent: str = ""


@dataclass(frozen=True, kw_only=True)
class EndpointAttempt:
    """An attempt that reached an endpoint or failed to: its time, its `error` (None for a success), and the answer."""

    at: datetime
    error: str | None = None
    status: int | None = None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A standing webhook address of a client.

    `events` are the names of the events that it gets, empty for all. `sealed` has its secrets and the values of its
    headers, sealed with the signing key of the fingerprint `key_id`. Replaced secrets sign until `old_secrets_until`.
    `rate` is how many attempts start in a time, like `30/s`; None for no limit.
    """

    id: str
    client: str
    url: str = field(repr=False)
    events: tuple[str, ...] = ()
    description: str = ""
    paused: bool = False
    header_names: tuple[str, ...] = ()
    sealed: str = field(repr=False)
    key_id: str = ""
    old_secrets_until: datetime | None = None
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None = None
    disabled_reason: str | None = None
    rate: str | None = None
    health: EndpointHealth = field(default_factory=EndpointHealth)


@dataclass(frozen=True, kw_only=True)
class EndpointMatch:
    """The fields of an enabled endpoint that decide which deliveries are made for it."""

    id: str
    client: str
    url: str = field(repr=False)
    events: tuple[str, ...] = ()
    paused: bool = False
    rate: str | None = None

    def wants(self, event_type: str, handlers: Sequence[Subscription]) -> bool:
        """Return whether it gets events of this type; `handlers` are those that are loaded here."""
        known = next((each for each in handlers if WEBHOOK in each.names), None)
        return (known is None or event_type in known.events) and event_type in (self.events or EVENT_NAMES)

    @property
    def wants_progress(self) -> bool:
        """Return whether it asks for progress by name: an endpoint for all events does not."""
        return EventType.PROGRESSED.value in self.events

    def route(self) -> DeliveryRoute:
        """Return the route of its deliveries: its lane stays the same when its address changes."""
        target = endpoint_target(self.id, self.url)
        host = target_host(target)
        return DeliveryRoute(
            handler=WEBHOOK,
            target=target,
            lane_key=lane_key(WEBHOOK, {"endpoint": self.id}),
            host_key=f"{WEBHOOK}/{host}" if host else None,
            endpoint_id=self.id,
            held=self.paused,
            limited=self.rate is not None,
        )


def endpoint_target(endpoint_id: str, url: str) -> Json:
    """Return the stored target of a delivery to an endpoint: its id and host. The attempt reads everything else."""
    host = target_host({"url": url}) or "unknown"
    return {"handler": WEBHOOK, "endpoint": endpoint_id, "url": f"{SCHEME}https://{_in_url(host)}"}


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def after_attempt(health: EndpointHealth, attempt: EndpointAttempt) -> EndpointHealth:
    """Return the health after one more attempt."""
    if attempt.error is None:
        return replace(
            health,
            last_success_at=attempt.at,
            consecutive_failures=0,
            failing_since=None,
            recent=(health.recent + "+")[-RECENT:],
        )
    last = health.last_failure_at
    continues = health.failing_since is not None and last is not None and attempt.at - last <= MAX_FAILURE_GAP
    return replace(
        health,
        last_failure_at=attempt.at,
        last_failure_status=attempt.status,
        last_failure_error=attempt.error,
        consecutive_failures=health.consecutive_failures + 1,
        failing_since=health.failing_since if continues else attempt.at,
        recent=(health.recent + "-")[-RECENT:],
    )


def disabled_reason(health: EndpointHealth, attempt: EndpointAttempt) -> DisabledReason | None:
    """Return why the endpoint is disabled after this attempt, whose result `health` contains; None if it is not."""
    if attempt.error is None:
        return None
    if attempt.status == GONE:
        return "gone"
    since = health.failing_since
    long = since is not None and attempt.at - since >= DISABLE_AFTER
    return "failing" if long and health.consecutive_failures >= MIN_FAILURES else None
