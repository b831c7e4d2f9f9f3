"""Validate the `notify` entries of a request."""

import json
from collections.abc import Callable, Collection
from difflib import get_close_matches

from service.domain.errors import Fault, InvalidParams
from service.domain.event_routing import EVENT_NAMES
from service.domain.models.value_checks import address_faults
from service.domain.task import Json
from service.domain.webhook_secrets import is_webhook_secret

MAX_ENTRIES = 16


MAX_ENTRY_BYTES = 16_384


MAX_UNKNOWN_FIELDS = 16


WEBHOOK = "webhook"


WEBHOOK_FIELDS = ("handler", "url", "events", "secret")


AddressCheck = Callable[[str], str | None]
"""Says why an address is never dialled; None where it may be."""


def validate_notify(value: object, known: Collection[str], refusal: AddressCheck) -> tuple[Json, ...]:
    """Return the entries of a request's `notify`; raises InvalidParams with every fault, each with its place.

    `known` are the names of the loaded handlers, `refusal` says which addresses are never dialled. None means no
    entries. An entry is an object with a `handler`, and for `webhook` a `url` (http or https), and where wanted
    `events` and a `secret`; other handlers may have fields of their own. At most 16 entries of 16 KiB each.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidParams([Fault(loc=("notify",), msg="must be a list of objects")])
    faults = [Fault(loc=("notify",), msg=f"at most {MAX_ENTRIES} entries")] if len(value) > MAX_ENTRIES else []
    for place, entry in enumerate(value[:MAX_ENTRIES]):
        faults += [Fault(loc=("notify", place, *loc), msg=msg) for loc, msg in _entry_faults(entry, known, refusal)]
    if faults:
        raise InvalidParams(faults)
    return tuple(value)


Complaint = tuple[tuple[str | int, ...], str]


def _entry_faults(entry: object, known: Collection[str], refusal: AddressCheck) -> list[Complaint]:
    if not isinstance(entry, dict):
        return [((), 'must be an object like {"handler": "webhook", "url": "https://..."}')]
    if not _small_json(entry):
        return [((), f"must be plain JSON of at most {MAX_ENTRY_BYTES} bytes")]
    found = _handler_faults(entry.get("handler"), known) + _event_faults(entry.get("events"))
    is_webhook = entry.get("handler") == WEBHOOK
    found += _url_faults(entry.get("url"), refusal, required=is_webhook)
    found += _secret_faults(entry.get("secret"))
    return found + (_field_faults(entry) if is_webhook else [])


def _small_json(entry: Json) -> bool:
    try:
        return len(json.dumps(entry, allow_nan=False, ensure_ascii=False).encode()) <= MAX_ENTRY_BYTES
    except (TypeError, ValueError, RecursionError):
        return False


def _handler_faults(name: object, known: Collection[str]) -> list[Complaint]:
    if not isinstance(name, str):
        return [(("handler",), f"must name a handler: {_listed(known)}")]
    return [] if name in known else [(("handler",), f"is no loaded handler; {_suggested(name, known)}")]


def _event_faults(events: object) -> list[Complaint]:
    if events is None:
        return []
    if not isinstance(events, list) or not events:
        return [(("events",), "must be a list of event names, or be left out for all")]
    return [
        (("events", place), f"is no event; {_suggested(str(name), EVENT_NAMES)}")
        for place, name in enumerate(events[:100])
        if name not in EVENT_NAMES
    ]


def _url_faults(url: object, refusal: AddressCheck, *, required: bool) -> list[Complaint]:
    if url is None:
        return [(("url",), "is missing; the webhook handler needs an http or https address")] if required else []
    if faults := address_faults(url):
        return [(("url",), fault) for fault in faults]
    why = refusal(str(url))
    return [(("url",), why)] if why else []


def _secret_faults(secret: object) -> list[Complaint]:
    if secret is None or (isinstance(secret, str) and is_webhook_secret(secret)):
        return []
    return [(("secret",), "must be whsec_ followed by the base64 of 24 to 64 bytes")]


def _field_faults(entry: Json) -> list[Complaint]:
    strange = [name for name in entry if name not in WEBHOOK_FIELDS][:MAX_UNKNOWN_FIELDS]
    return [((name,), f"is unknown here; {_suggested(name, WEBHOOK_FIELDS)}") for name in strange]


def _suggested(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name[:100], list(known), n=1)
    return f"did you mean {near[0]}?" if near else f"one of {_listed(known)}"


def _listed(known: Collection[str]) -> str:
    return ", ".join(sorted(known)) or "none is loaded"
