"""The manners in which providers and the gateways before them send a callback: address, body and headers."""

import gzip
import json
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from service.sandbox.state import SandboxState

PROBES = ("HEAD", "OPTIONS", "GET")
"""Methods that probe an address before a callback is sent."""

_PADDING = "x" * (2 * 1024 * 1024 + 1)
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, kw_only=True, slots=True)
class SentCallback:
    """What is sent: address, body and headers."""

    url: str = field(repr=False)
    body: bytes = field(repr=False)
    headers: dict[str, str]


def sent_callback(state: SandboxState, occasion: str, url: str, body: dict[str, Any]) -> SentCallback:
    """Return a callback in the manner that the switches choose."""
    if state.hits("wrapped_callbacks", occasion):
        body = {"code": 0, "message": "ok", "data": body}
    if state.hits("oversized_callbacks", occasion):
        body = body | {"debug": _PADDING}
    sent = SentCallback(
        url=_spelt(state, occasion, url), body=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    if state.hits("form_callbacks", occasion):
        half = 0.5
        form = _form_fields(body) if state.faults.draw("form_fields", occasion) < half else {"data": sent.body}
        sent = replace(sent, body=urlencode(form).encode(), headers={"Content-Type": _FORM})
    elif state.hits("bom_callbacks", occasion):
        sent = replace(sent, body=b"\xef\xbb\xbf" + sent.body)
    if state.hits("gzip_callbacks", occasion):
        sent = replace(
            sent, body=gzip.compress(sent.body, mtime=0), headers=sent.headers | {"Content-Encoding": "gzip"}
        )
    return sent


def _form_fields(body: dict[str, Any]) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in body.items()}


def _spelt(state: SandboxState, occasion: str, url: str) -> str:
    """Return the address in another spelling: percent-encoded, or with a slash behind it."""
    parts = urlsplit(url)
    path = parts.path
    if state.hits("encoded_callbacks", occasion):
        folder, _, last = path.rpartition("/")
        path = f"{folder}/{last.replace('~', '%7E').replace('.', '%2e')}"
    if state.hits("slash_callbacks", occasion):
        path += "/"
    return urlunsplit(parts._replace(path=path))
