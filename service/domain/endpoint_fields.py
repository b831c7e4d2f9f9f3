"""Check the fields of an endpoint that a client gives: functions return the faults, with the fix. Only computes."""

import re
from collections.abc import Mapping
from difflib import get_close_matches

from service.domain.errors import Fault
from service.domain.event_routing import EVENT_NAMES
from service.domain.models.value_checks import address_faults, text_faults
from service.domain.notify import AddressCheck
from service.domain.operator_event import OPERATOR_EVENT_NAMES
from service.domain.webhook_secrets import is_webhook_secret

MAX_URL = 2048
MAX_DESCRIPTION = 500
MAX_HEADERS = 16
MAX_HEADER_NAME = 64
MAX_HEADER_VALUE = 1024
"""Characters, and headers, of an endpoint."""

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
HEADER_VALUE = re.compile(r"[!-~](?:[\t -~]*[!-~])?")

RATE = re.compile(r"[1-9][0-9]{0,8}/(s|m|h)")
"""The rate of an endpoint; see `service.domain.delivery_rate`."""

RESERVED = frozenset(
    {
        *("host", "content-length", "content-type", "content-encoding", "accept-encoding", "expect", "user-agent"),
        *("connection", "keep-alive", "te", "trailer", "trailers", "transfer-encoding", "upgrade", "http2-settings"),
        *("forwarded", "via", "max-forwards"),
    }
)
RESERVED_PREFIXES = ("webhook-", "proxy-", "sec-", "x-forwarded-")
"""Headers that describe the message or its way, or that are signed: only this service sets them."""


def url_faults(url: str, check_address: AddressCheck) -> list[Fault]:
    """Return the faults of an address: it must be http or https, short, without credentials, and may be dialled."""
    faults = address_faults(url)
    if not faults and len(url) > MAX_URL:
        faults = [f"must be an address of at most {MAX_URL:,} characters, has {len(url):,}: use a shorter one"]
    if not faults and "@" in url.partition("://")[2].split("/")[0].split("?")[0].split("#")[0]:
        faults = ["must not contain a user name or password: give `headers` an Authorization"]
    if not faults and "#" in url:
        faults = ["must not contain a fragment (#): it is never sent"]
    if not faults and (reason := check_address(url)):
        faults = [reason]
    return [Fault(loc=("url",), msg=fault) for fault in faults]


def event_faults(events: list[str] | None, *, operator: bool = False) -> list[Fault]:
    """Return the faults of the names of events; null stands for all of those of tasks.

    An `operator`, whose endpoint it is, may name operator events too.
    """
    if events is None:
        return []
    if not events:
        return [Fault(loc=("events",), msg="must name at least one event, or be null for all")]
    allowed = (*EVENT_NAMES, *OPERATOR_EVENT_NAMES) if operator else EVENT_NAMES
    known = f"known are {', '.join(allowed)}"
    faults = [
        Fault(loc=("events", index), msg=_unknown_event(name, known))
        for index, name in enumerate(events[:100])
        if name not in allowed
    ]
    if len(events) > len(set(events)):
        faults.append(Fault(loc=("events",), msg="names an event twice: name each once"))
    return faults


def _unknown_event(name: str, known: str) -> str:
    if name in OPERATOR_EVENT_NAMES:
        return f"is for endpoints of admins alone; {known}"
    return f"is not an event type; {_suggestion(name)}{known}"


def _suggestion(name: str) -> str:
    similar = get_close_matches(name[:100], EVENT_NAMES, n=1)
    return f"did you mean {similar[0]}? " if similar else ""


def description_faults(description: str) -> list[Fault]:
    """Return the faults of a description."""
    faults = text_faults(description, max_chars=MAX_DESCRIPTION, blank=True)
    return [Fault(loc=("description",), msg=fault) for fault in faults]


def rate_faults(rate: str | None) -> list[Fault]:
    """Return the faults of a rate; null stands for no limit."""
    if rate is None or RATE.fullmatch(rate):
        return []
    return [Fault(loc=("rate",), msg="must be attempts for a time, like 30/s, 600/m or 36000/h; or null for no limit")]


def secret_faults(secret: str) -> list[Fault]:
    """Return the faults of a secret that the client gives."""
    if is_webhook_secret(secret):
        return []
    return [Fault(loc=("secret",), msg="must be whsec_ followed by the base64 of 24 to 64 bytes; or leave it out")]


def header_faults(headers: Mapping[str, str]) -> list[Fault]:
    """Return the faults of custom headers. No message repeats a value: values are secrets."""
    faults: list[Fault] = []
    if len(headers) > MAX_HEADERS:
        faults.append(Fault(loc=("headers",), msg=f"must be at most {MAX_HEADERS} headers, are {len(headers)}"))
    seen: set[str] = set()
    for number, (name, value) in enumerate(headers.items()):
        if number == MAX_HEADERS:
            break
        lower = name.lower()
        shown = name if HEADER_NAME.fullmatch(name) and len(name) <= MAX_HEADER_NAME else f"header {number + 1}"
        if shown != name:
            message = f"must have a name of 1 to {MAX_HEADER_NAME} characters of a header: letters, digits and -"
            faults.append(Fault(loc=("headers", shown), msg=message))
        elif lower in RESERVED or lower.startswith(RESERVED_PREFIXES):
            faults.append(Fault(loc=("headers", shown), msg="is set by this service: leave it out"))
        elif lower in seen:
            faults.append(Fault(loc=("headers", shown), msg="is given twice; upper and lower case do not differ"))
        if len(value) > MAX_HEADER_VALUE or not HEADER_VALUE.fullmatch(value):
            message = f"must have a value of 1 to {MAX_HEADER_VALUE:,} printable ASCII characters, no blank at its ends"
            faults.append(Fault(loc=("headers", shown), msg=message))
        seen.add(lower)
    return faults
