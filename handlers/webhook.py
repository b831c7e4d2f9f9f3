"""Posts events to a URL, signed according to Standard Webhooks: https://www.standardwebhooks.com.

A task's `notify` entry names the URL and, optionally, a secret of its own. An endpoint is a standing address of a
client, with secrets and headers of its own. The `callback_url` of a task that came through the provider's own API gets
a body in that API's form, which the target holds. With BOOMERANG_WEBHOOK_URL every event is also posted there.
All others are signed with the secrets in `tools.settings`, newest first: those of the client for a `notify` entry, else
BOOMERANG_WEBHOOK_SECRETS. The body names the client, so that a receiver can distinguish its own events from those of
another client, and the event, so that it can recognize one that was replayed.
"""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx
from standardwebhooks import Webhook

from service import Event, Handlers, Reject, Retry, Tools

TIMEOUT = 15.0
CONCURRENCY = 32
"""Requests at once: one client alone uses at most half of them, so that others find a free slot."""

MAX_DRAINED = 65_536
DRAIN_TIMEOUT = 1.0
"""Bytes of a response's body that are read, and seconds that are spent on it."""

MAX_KEPT = 4096
"""Bytes of a response's body that are given to `tools.keep_answer`."""

MAX_RETRY_AFTER = 86_400.0
"""Upper limit in seconds for a Retry-After."""

BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})

handlers = Handlers()


def _check(settings: Mapping[str, str]) -> str | None:
    try:
        for secret in _secrets({}, settings):
            Webhook(secret)
    except (ValueError, RuntimeError):
        return "BOOMERANG_WEBHOOK_SECRETS must be whsec_ secrets with commas between; `boomerang secret` makes one"
    return None


@handlers.on(
    name="webhook",
    timeout=TIMEOUT,
    concurrency=CONCURRENCY,
    by_request=True,
    for_clients=True,
    always_with="WEBHOOK_URL",
    check=_check,
)
async def webhook(event: Event, tools: Tools) -> None:
    """Post the event: a 2xx response delivers it, 410 rejects it, everything else is retried."""
    own_body = tools.target.get("body")
    body = _json(own_body if isinstance(own_body, dict) else event.to_json())
    headers = _headers(body, tools)
    async with tools.http.stream(
        "POST", _target_url(tools), content=body, headers=headers, timeout=TIMEOUT, follow_redirects=False
    ) as response:
        body_of_answer = await _drain_body(response)
    tools.keep_answer(response.status_code, body_of_answer)
    _raise_for_status(response, tools.now())


def _json(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _target_url(tools: Tools) -> httpx.URL:
    text = tools.target.get("url") if tools.target else tools.settings.get("WEBHOOK_URL")
    if not text:
        raise Reject("the notify entry has no url, and BOOMERANG_WEBHOOK_URL is not set")
    try:
        url = httpx.URL(str(text))
        if url.host:  # raises UnicodeError for a name that is not valid IDNA
            return url
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Reject("the address cannot be read") from error
    raise Reject("the address has no host")


def _headers(body: bytes, tools: Tools) -> dict[str, str]:
    now = tools.now().replace(microsecond=0)
    secrets = _secrets(tools.target, tools.settings)
    if not secrets:
        raise Reject("there is no secret to sign with: give the notify entry one, or set BOOMERANG_WEBHOOK_SECRETS")
    try:
        signatures = [Webhook(secret).sign(tools.message_id, now.astimezone(UTC), body.decode()) for secret in secrets]
    except (ValueError, RuntimeError) as error:
        raise Reject("a webhook secret is not whsec_ and base64") from error
    own = tools.target.get("headers")
    return {
        **({str(name).lower(): str(value) for name, value in own.items()} if isinstance(own, dict) else {}),
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": "boomerang",
        "webhook-id": tools.message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _secrets(target: Mapping[str, object], settings: Mapping[str, str]) -> list[str]:
    of_endpoint = target.get("secrets")
    if isinstance(of_endpoint, list):
        return [str(secret) for secret in of_endpoint]
    own = target.get("secret")
    secrets = [str(own)] if own else settings.get("WEBHOOK_SECRETS", "").split(",")
    return [secret.strip() for secret in secrets if secret.strip()]


async def _drain_body(response: httpx.Response) -> bytes:
    """Read a short body to its end, so that the connection can be reused; return its beginning if it is readable.

    Errors are ignored: the status counts.
    """
    read, kept = 0, bytearray()
    with suppress(httpx.HTTPError, httpx.StreamError, TimeoutError):
        async with asyncio.timeout(DRAIN_TIMEOUT):
            async for chunk in response.aiter_raw():
                read += len(chunk)
                kept += chunk[: MAX_KEPT - len(kept)]
                if read > MAX_DRAINED:
                    break
    compressed = response.headers.get("content-encoding", "identity").lower() != "identity"
    return b"" if compressed else bytes(kept)


def _raise_for_status(response: httpx.Response, now: datetime) -> None:
    if response.is_success:
        return
    reason = f"the receiver answered {response.status_code}"
    if response.status_code == HTTPStatus.GONE:
        raise Reject(reason)
    if response.is_redirect:
        raise Retry(f"{reason}: redirects are not followed, give the final address")
    raise Retry(reason, after=_retry_after(response, now) if response.status_code in BUSY else None)


def _retry_after(response: httpx.Response, now: datetime) -> float | None:
    """Return the seconds that the Retry-After header asks for, None without a valid one."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), MAX_RETRY_AFTER)
