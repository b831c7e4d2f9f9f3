"""Validate the `notify` entries of a request."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from service.domain.errors import Fault, InvalidParams
from service.domain.event_routing import EVENT_NAMES, WEBHOOK
from service.domain.models.value_checks import address_faults
from service.domain.sealed_targets import SECRET_ID
from service.domain.task import Json
from service.domain.webhook_secrets import is_webhook_secret

MAX_ENTRIES = 16
MAX_ENTRY_BYTES = 16_384
MAX_UNKNOWN_FIELDS = 16
WEBHOOK_FIELDS = ("handler", "url", "events", "secret")

AddressCheck = Callable[[str], str | None]
"""Returns why no connection to an address is allowed, or None."""

LocatedMessage = tuple[tuple[str | int, ...], str]
"""The location of a fault inside an entry, and its message."""

OptionsCheck = Callable[[Json], list[LocatedMessage]]
"""Returns every fault of an entry in the fields that its handler declares."""


@dataclass(frozen=True, kw_only=True)
class NotifyRules:
    """What `notify` may contain beside the fields of every entry.

    `options` check the entries of the handlers that declare their fields, by name. `not_loaded` has for handlers that
    are known and not loaded here what is missing.
    """

    options: Mapping[str, OptionsCheck] = field(default_factory=dict)
    not_loaded: Mapping[str, str] = field(default_factory=dict)


NO_RULES = NotifyRules()


def validate_notify(
    value: object, handlers: Collection[str], check_address: AddressCheck, rules: NotifyRules = NO_RULES
) -> tuple[Json, ...]:
    """Return the entries of the `notify` of a request; None has no entries. Raises InvalidParams with every fault.

    `handlers` are the names that it may use. An entry is an object with a `handler`. The entry of `webhook` has a `url`
    (http or https), and optional `events` and `secret`. Entries of other handlers may have further fields: those that
    the handler declares, or any if it declares none. At most 16 entries of 16 KiB each.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidParams([Fault(loc=("notify",), msg="must be a list of objects")])
    faults = [Fault(loc=("notify",), msg=f"at most {MAX_ENTRIES} entries")] if len(value) > MAX_ENTRIES else []
    for index, entry in enumerate(value[:MAX_ENTRIES]):
        faults += [
            Fault(loc=("notify", index, *loc), msg=msg)
            for loc, msg in _entry_faults(entry, handlers, check_address, rules)
        ]
    if faults:
        raise InvalidParams(faults)
    return tuple(value)


def _entry_faults(
    entry: object, handlers: Collection[str], check_address: AddressCheck, rules: NotifyRules
) -> list[LocatedMessage]:
    if not isinstance(entry, dict):
        return [((), 'must be an object like {"handler": "webhook", "url": "https://..."}')]
    if not _is_small_json(entry):
        return [((), f"must be plain JSON of at most {MAX_ENTRY_BYTES} bytes")]
    name, secret = entry.get("handler"), entry.get("secret")
    is_webhook = name == WEBHOOK
    faults: list[LocatedMessage] = []
    if not isinstance(name, str):
        faults.append((("handler",), f"must name a handler: {_listed(handlers)}"))
    elif name not in handlers:
        reason = rules.not_loaded.get(name)
        faults.append((("handler",), reason or f"is not a loaded handler; {_suggestion(name, handlers)}"))
    faults += _event_faults(entry.get("events"))
    faults += _url_faults(entry.get("url"), check_address, required=is_webhook)
    if secret is not None and not (isinstance(secret, str) and is_webhook_secret(secret)):
        faults.append((("secret",), "must be whsec_ followed by the base64 of 24 to 64 bytes"))
    faults += _field_faults(entry, is_webhook=is_webhook)
    if isinstance(name, str) and name in handlers and name in rules.options:
        known = {loc for loc, _ in faults}
        faults += [fault for fault in rules.options[name](entry) if fault[0] not in known]
    return faults


def _field_faults(entry: Json, *, is_webhook: bool) -> list[LocatedMessage]:
    """Return the faults of fields: `webhook` has no unknown ones, others not the one that the store uses."""
    if not is_webhook:
        return [((SECRET_ID,), "is reserved; leave it out")] if SECRET_ID in entry else []
    unknown = [name for name in entry if name not in WEBHOOK_FIELDS][:MAX_UNKNOWN_FIELDS]
    return [((name,), f"is unknown here; {_suggestion(name, WEBHOOK_FIELDS)}") for name in unknown]


def _is_small_json(entry: Json) -> bool:
    try:
        return len(json.dumps(entry, allow_nan=False, ensure_ascii=False).encode()) <= MAX_ENTRY_BYTES
    except (TypeError, ValueError, RecursionError):
        return False


def _event_faults(events: object) -> list[LocatedMessage]:
    if events is None:
        return []
    if not isinstance(events, list) or not events:
        return [(("events",), "must be a list of event names, or be left out for all")]
    return [
        (("events", index), f"is not an event type; {_suggestion(str(name), EVENT_NAMES)}")
        for index, name in enumerate(events[:100])
        if name not in EVENT_NAMES
    ]


def _url_faults(url: object, check_address: AddressCheck, *, required: bool) -> list[LocatedMessage]:
    if url is None:
        return [(("url",), "is missing; the webhook handler needs an http or https address")] if required else []
    if faults := address_faults(url):
        return [(("url",), fault) for fault in faults]
    reason = check_address(str(url))
    return [(("url",), reason)] if reason else []


def _suggestion(name: str, known: Collection[str]) -> str:
    similar = get_close_matches(name[:100], list(known), n=1)
    return f"did you mean {similar[0]}?" if similar else f"one of {_listed(known)}"


def _listed(known: Collection[str]) -> str:
    return ", ".join(sorted(known)) or "none is loaded"
