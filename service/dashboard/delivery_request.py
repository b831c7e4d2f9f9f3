"""What a delivery sends, rebuilt from its event as it is stored: for the time line of a task.

Only computes. Secrets are not opened for it: what is stored sealed stays out, and so do signatures and the values of an
endpoint's own headers. As in the API, only the owner of an address reads more of it than its host.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from service.api.authentication import Caller
from service.domain.callback_forms import FORM, with_body
from service.domain.callback_forms import SCHEME as FORM_SCHEME
from service.domain.endpoint import Endpoint
from service.domain.event_routing import WEBHOOK, target_host
from service.domain.ports.delivery_details import DeliveryContent
from service.domain.sealed_targets import FIELDS_SCHEME, SECRET_ID
from service.domain.sealed_targets import SCHEME as SEALED_SCHEME
from service.domain.task import Json
from service.domain.task_view import TaskView

MAX_BODY = 8 * 1024
"""Characters of a body that are shown."""

MASK = "…"
SIGNED = (
    ("accept-encoding", "identity"),
    ("content-type", "application/json"),
    ("user-agent", "boomerang"),
)
STAMPED = (("webhook-timestamp", "the seconds since 1970 of the attempt"), ("webhook-signature", f"v1,{MASK}"))
"""Headers that the webhook handler sends beside the id of the message; the last two differ with each attempt."""


@dataclass(frozen=True, kw_only=True)
class DeliveryRequest:
    """What a delivery sends: a request to `address` with `headers`, or None and () where a handler decides about that.

    `body` is its beginning, of `size` bytes in all. `options` are those of the `notify` entry, masked for others.
    """

    address: str | None
    headers: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str], ...]
    body: str
    size: int

    @property
    def text(self) -> str:
        """Return all of it as one text: the request line and the headers, or the options, above the body."""
        first = [f"POST {self.address}"] if self.address else []
        lines = [*first, *(f"{name}: {value}" for name, value in (*self.headers, *self.options))]
        return "\n".join([*lines, *([""] if lines else []), self.body + (MASK if self.cut else "")])

    @property
    def cut(self) -> bool:
        """Return whether the body has more than what is shown."""
        return len(self.body.encode()) < self.size


def delivery_request(
    content: DeliveryContent, caller: Caller, *, endpoint: Endpoint | None = None, meta_data: str | None = None
) -> DeliveryRequest:
    """Return what a delivery sends, as `caller` may see it.

    `endpoint` is the one of the delivery as it is now, None for a deleted one. `meta_data` is the caller's own.
    """
    text = json.dumps(_body(content, meta_data), ensure_ascii=False, separators=(",", ":"))
    body = text.encode(errors="replace").decode()
    own = content.event.event.client == caller.name and not caller.read_only
    by_webhook = content.handler == WEBHOOK
    return DeliveryRequest(
        address=_address(content, caller, endpoint, own=own) if by_webhook else None,
        headers=_headers(content, endpoint) if by_webhook else (),
        options=() if by_webhook else _options(content.target, own=own),
        body=body[:MAX_BODY],
        size=len(body.encode()),
    )


def _body(content: DeliveryContent, meta_data: str | None) -> Json:
    event = content.event
    try:
        task = TaskView.from_json({"client": event.event.client} | event.event.data).to_json()
    except (KeyError, TypeError, ValueError):  # of another release: the page shows it as it is stored
        return event.to_json(event.event.data)
    if FORM not in content.target:
        return event.to_json(task)
    found: Json = with_body(content.target, task, payload=event.payload, meta_data=meta_data)["body"]
    return found


def _address(content: DeliveryContent, caller: Caller, endpoint: Endpoint | None, *, own: bool) -> str:
    if not content.target:
        return "the address in BOOMERANG_WEBHOOK_URL" if caller.sees_all else "an address of the operator"
    if content.endpoint_id:
        return _shown(endpoint.url, own=own) if endpoint else "the endpoint, which is deleted"
    url = str(content.target.get("url", ""))
    sealed = url.startswith(FIELDS_SCHEME)
    for scheme in (FIELDS_SCHEME, SEALED_SCHEME, FORM_SCHEME):
        url = url.removeprefix(scheme)
    return _shown(url, own=own and not sealed)


def _shown(url: str, *, own: bool) -> str:
    """Return an address: for its owner without the values of its query and without a password, else its host alone."""
    scheme = url.partition("://")[0]
    if not own:
        return f"{scheme}://{target_host({'url': url}) or MASK}/{MASK}"
    parts = urlsplit(url)
    query = f"?{MASK}" if parts.query else ""
    return f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def _headers(content: DeliveryContent, endpoint: Endpoint | None) -> tuple[tuple[str, str], ...]:
    own = tuple((name.lower(), MASK) for name in endpoint.header_names) if endpoint else ()
    return (*own, *SIGNED, ("webhook-id", content.message_id), *STAMPED)


def _options(target: Mapping[str, object], *, own: bool) -> tuple[tuple[str, str], ...]:
    """Return the options of a `notify` entry; those that are stored sealed are not among them."""
    return tuple(
        (name, (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)) if own else MASK)
        for name, value in target.items()
        if name not in {"handler", SECRET_ID, "url"}
    )
