"""Who hears of an event: handlers by their subscription, and the `notify` entries of a task."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from service.domain.task import EventType, Json

EVENT_NAMES = tuple(event.value for event in EventType)


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """What a handler wants: `events` by name; with `by_request` only when a `notify` entry asks for it.

    `former` are names that it had before, the oldest last, and that an entry may still have.
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
    """One delivery to make: `target` is the `notify` entry that asked for it, {} for none.

    `lane_key` is the same for the same handler and target, in every process and for ever: an entry's is made of the
    name that it has, and a handler's own of its first one, not of the one that the handler has taken since.
    """

    handler: str
    target: Json = field(repr=False)
    lane_key: str


def route(event_type: str, notify: Sequence[Json], handlers: Sequence[Subscription]) -> list[DeliveryRoute]:
    """Return one route for each handler that wants the event, and for each different `notify` entry that does.

    An entry may name a handler that another process has, and that is not among `handlers`: what it wants is not known
    here, so that the entry's own word counts alone.
    """
    by_name = {name: handler for handler in handlers for name in handler.names}
    ways = [_plain_route(each) for each in handlers if not each.by_request and event_type in each.events]
    for entry in notify:
        handler = by_name.get(entry["handler"])
        if (not handler or event_type in handler.events) and event_type in (entry.get("events") or EVENT_NAMES):
            ways.append(_route_of(entry["handler"], entry["handler"], entry))
    return list({way.lane_key: way for way in ways}.values())


@cache
def _plain_route(handler: Subscription) -> DeliveryRoute:
    """Return the way to a handler that nobody named a target for: mostly this one, and always the same."""
    return _route_of(handler.name, handler.names[-1], {})


def _route_of(handler: str, lane_name: str, target: Json) -> DeliveryRoute:
    written = json.dumps([lane_name, target], sort_keys=True, separators=(",", ":"))
    return DeliveryRoute(handler=handler, target=target, lane_key=hashlib.sha256(written.encode()).hexdigest()[:24])
