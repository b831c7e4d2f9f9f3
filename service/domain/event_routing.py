"""Selects who receives an event: handlers by their subscription, and the `notify` entries of a task."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlsplit

from service.domain.task import EventType, Json

WEBHOOK = "webhook"
"""The handler of entries that are an address alone."""

EVENT_NAMES = tuple(event.value for event in EventType)


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """The `events` of a handler by name; with `by_request` only those that a `notify` entry requests.

    `former` are its former names, the oldest last, which a `notify` entry may still contain.
    """

    name: str
    events: frozenset[str]
    by_request: bool = False
    former: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return its own name and its former ones."""
        return (self.name, *self.former)


@dataclass(frozen=True, kw_only=True)
class DeliveryRoute:
    """One delivery to create: `target` is the `notify` entry that requested it, {} for none.

    `lane_key` is the same for the same handler and target, in every process and permanently: for an entry it is made
    of the name in the entry, and for a handler without a target of the oldest name of the handler. `host_key` is the
    same for all entries with the same handler and host, None for a target without an address. `endpoint_id` is set
    where the target is an endpoint; a delivery that is `held` waits until the endpoint is resumed, and one that is
    `limited` is not leased when it is stored: only a claim counts what the rate of the endpoint allows.
    """

    handler: str
    target: Json = field(repr=False)
    lane_key: str
    host_key: str | None = None
    endpoint_id: str | None = None
    held: bool = False
    limited: bool = False


def target_host(target: Json) -> str | None:
    """Return the host of the address that a `notify` entry names, in lower case; None if it names none."""
    url = target.get("url")
    if not isinstance(url, str):
        return None
    try:
        return (urlsplit(url).hostname or "").rstrip(".") or None
    except ValueError:
        return None


def route(event_type: str, notify: Sequence[Json], handlers: Sequence[Subscription]) -> list[DeliveryRoute]:
    """Return one route for each handler that subscribes to the event, and for each different matching `notify` entry.

    An entry may name a handler that only another process has loaded, and that is not among `handlers`: its events are
    not known here, so that only the events of the entry count.
    """
    by_name = {name: handler for handler in handlers for name in handler.names}
    routes = [_route_without_target(one) for one in handlers if not one.by_request and event_type in one.events]
    for entry in notify:
        handler = by_name.get(entry["handler"])
        if (not handler or event_type in handler.events) and event_type in (entry.get("events") or EVENT_NAMES):
            routes.append(_route(entry["handler"], entry["handler"], entry))
    return list({one.lane_key: one for one in routes}.values())


def wants_progress(notify: Sequence[Json], handlers: Sequence[Subscription]) -> bool:
    """Return whether a handler or a `notify` entry asks for progress by name: one for all events does not."""
    wanted = EventType.PROGRESSED.value
    if any(wanted in (entry.get("events") or ()) for entry in notify):
        return True
    return any(
        wanted in each.events and len(each.events) < len(EVENT_NAMES) for each in handlers if not each.by_request
    )


@cache
def _route_without_target(handler: Subscription) -> DeliveryRoute:
    """Return the route of a handler without a target, which most deliveries use; it never changes."""
    return _route(handler.name, handler.names[-1], {})


def lane_key(lane_name: str, target: Json) -> str:
    """Return the key of the lane of a handler and target: the same in every process and permanently."""
    canonical = json.dumps([lane_name, target], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:24]


def _route(handler: str, lane_name: str, target: Json) -> DeliveryRoute:
    host = target_host(target)
    return DeliveryRoute(
        handler=handler,
        target=target,
        lane_key=lane_key(lane_name, target),
        host_key=f"{lane_name}/{host}" if host else None,
    )
