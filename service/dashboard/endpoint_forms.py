"""The fields of the forms of endpoints, and their faults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from service.dashboard.forms import Form
from service.domain.endpoint import Endpoint
from service.domain.errors import Fault, InvalidParams
from service.domain.event_routing import EVENT_NAMES
from service.domain.operator_event import OperatorEventType
from service.domain.task import Json

EVENTS = sorted(EVENT_NAMES)
ADMIN_EVENTS = [*EVENTS, *sorted(each.value for each in OperatorEventType)]
"""What the form of an endpoint offers: operator events to admins."""

OVERLAPS = (("0", "none: the old one ends now"), ("1", "an hour"), ("24", "a day"), ("168", "a week"))


@dataclass(frozen=True, kw_only=True)
class EndpointForm:
    """What is in a form of an endpoint, and what is wrong with it, by field."""

    url: str = field(default="", repr=False)
    description: str = ""
    events: Sequence[str] = ()
    headers: str = field(default="", repr=False)
    rate: str = ""
    faults: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def with_faults(self, faults: Sequence[Fault]) -> "EndpointForm":
        """Return the same form with the messages of `faults`; those of no field are under the empty name."""
        found: dict[str, list[str]] = {}
        for fault in faults:
            name = str(fault.loc[0]) if fault.loc and fault.loc[0] in FIELDS else ""
            inner = ".".join(map(str, fault.loc[1:] if name else fault.loc))
            found.setdefault(name, []).append(f"{inner}: {fault.msg}" if inner else fault.msg)
        return EndpointForm(**{**vars(self), "faults": found})


FIELDS = frozenset({"url", "description", "events", "headers", "rate", "secret"})


def form_of(endpoint: Endpoint) -> EndpointForm:
    """Return the form that changes an endpoint. The values of its headers are never shown."""
    return EndpointForm(
        url=endpoint.url, description=endpoint.description, events=endpoint.events, rate=endpoint.rate or ""
    )


def read_form(form: Form) -> EndpointForm:
    """Return what was sent."""
    return EndpointForm(
        url=form.get("url").strip(),
        description=form.get("description").strip(),
        events=[name for name in form.all("events") if name],
        headers=form.get("headers"),
        rate=form.get("rate").strip(),
    )


def values_of(sent: EndpointForm) -> Json:
    """Return the fields as the body of a request has them: no chosen event means all.

    Raises InvalidParams for headers that are no headers.
    """
    faults: list[Fault] = []
    headers = _headers(sent, faults)
    if faults:
        raise InvalidParams(faults)
    events = None if not sent.events or set(sent.events) == set(EVENTS) else list(sent.events)
    fields: Json = {"url": sent.url, "description": sent.description, "events": events, "headers": headers}
    return fields | {"rate": sent.rate or None}


def _headers(sent: EndpointForm, faults: list[Fault]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in sent.headers.splitlines():
        name, separator, value = line.partition(":")
        if not line.strip():
            continue
        if not separator or not name.strip():
            faults.append(Fault(loc=("headers",), msg="write each as `Name: value`, one a line"))
        elif name.strip() in headers:
            faults.append(Fault(loc=("headers",), msg=f"{name.strip()[:60]} is given more than once"))
        else:
            headers[name.strip()] = value.strip()
    return headers


def read_overlap(form: Form) -> timedelta:
    """Return how long a replaced secret signs beside the new one."""
    known = {hours for hours, _ in OVERLAPS}
    hours = form.get("overlap")
    return timedelta(hours=int(hours if hours in known else "24"))
