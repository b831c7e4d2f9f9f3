"""What the `callback_url` of a task gets: our own events, or bodies in the form of the provider's API. Only computes.

A client that was written for the provider's API gives its `callback_url` there, and expects the provider's body. The
`notify` entry of such an address names the form. Its address has another scheme: the previous release, which knows no
forms, refuses to connect to it and tries again later. It would otherwise post an event that the client cannot read.
"""

from service.domain.event_routing import WEBHOOK
from service.domain.task import EventType, Json
from service.domain.vtrix_shape import vtrix_task

VTRIX = "vtrix"
SCHEME = f"{VTRIX}+"
"""Prefix of the scheme of an address that gets bodies in Vtrix's form."""

FORM = "form"
BODY = "body"
"""Fields of a target: the form that is stored, and the body that takes the event's place at an attempt."""

FINAL_EVENTS = (EventType.COMPLETED, EventType.FAILED, EventType.CANCELED, EventType.EXPIRED)
"""Events that are announced in the provider's form: an undelivered start would hold up the end of the task."""


def callback_entry(url: str, form: str | None) -> Json:
    """Return the `notify` entry for the `callback_url` of a request, in its stored form."""
    if form is None:
        return {"handler": WEBHOOK, "url": url}
    return {"handler": WEBHOOK, "url": SCHEME + url, FORM: form, "events": [each.value for each in FINAL_EVENTS]}


def has_form(target: Json) -> bool:
    """Return whether a stored entry is one of `callback_entry` with a form; no request can contain such an address."""
    url = target.get("url")
    return target.get(FORM) == VTRIX and isinstance(url, str) and url.startswith(SCHEME)


def with_body(target: Json, task: Json, *, payload: str | None, meta_data: str | None) -> Json:
    """Return the stored entry `target` as a handler gets it: with its address, and with the body to post.

    `task` is the task object of the event, the texts are the caller's own.
    """
    entry = {name: value for name, value in target.items() if name != FORM}
    body = vtrix_task(task, payload=payload, meta_data=meta_data)
    return entry | {"url": str(target["url"]).removeprefix(SCHEME), BODY: body}
