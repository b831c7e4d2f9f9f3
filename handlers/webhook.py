"""Posts events to an address, signed as Standard Webhooks says: https://www.standardwebhooks.com.

A task's `notify` entry names the address and, where wanted, a secret of its own; with BOOMERANG_WEBHOOK_URL every event
also goes there. Signed with BOOMERANG_WEBHOOK_SECRETS otherwise, newest first: the same for all clients, so that the
body names the client, by which a receiver knows its own events from another's that were passed on or sent to it.
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
PLACES = 32
"""How many are posted at once: a client alone has half of them, the others leave room for whoever comes next."""

MOST_READ = 65_536
PATIENCE = 1.0
"""Bytes of an answer's body that are read, and seconds that are spent on it."""

LONGEST_WAIT = 86_400.0
"""Seconds of a Retry-After that are honoured at most."""

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
    name="webhook", timeout=TIMEOUT, concurrency=PLACES, by_request=True, always_with="WEBHOOK_URL", check=_check
)
async def webhook(event: Event, tools: Tools) -> None:
    """Post the event; a 2xx is delivered, 410 ends it, everything else is tried again."""
    body = _body(event)
    headers = _headers(body, tools)
    async with tools.http.stream(
        "POST", _address(tools), content=body, headers=headers, timeout=TIMEOUT, follow_redirects=False
    ) as answer:
        await _read_some(answer)
    _judge(answer, tools.now())


def _body(event: Event) -> bytes:
    data = {
        "task": event.task.to_json(),
        "payload": event.payload,
        "metadata": event.metadata,
        "client": event.client,
    }
    at = event.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = {"type": event.type, "timestamp": at, "data": data}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _address(tools: Tools) -> httpx.URL:
    address = tools.target.get("url") if tools.target else tools.settings.get("WEBHOOK_URL")
    if not address:
        raise Reject("the notify entry has no url, and BOOMERANG_WEBHOOK_URL is not set")
    try:
        there = httpx.URL(str(address))
        if there.host:  # one that is no IDNA raises only here
            return there
    except (httpx.InvalidURL, UnicodeError) as error:
        raise Reject("the address cannot be read") from error
    raise Reject("the address has no host")


def _headers(body: bytes, tools: Tools) -> dict[str, str]:
    now = tools.now().replace(microsecond=0)
    secrets = _secrets(tools.target, tools.settings)
    if not secrets:
        raise Reject("there is no secret to sign with: give the notify entry one, or set BOOMERANG_WEBHOOK_SECRETS")
    return {
        "content-type": "application/json",
        "user-agent": "boomerang",
        "webhook-id": tools.message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(_sign(secret, tools.message_id, now, body) for secret in secrets),
    }


def _secrets(target: Mapping[str, object], settings: Mapping[str, str]) -> list[str]:
    own = target.get("secret")
    given = [str(own)] if own else settings.get("WEBHOOK_SECRETS", "").split(",")
    return [secret.strip() for secret in given if secret.strip()]


def _sign(secret: str, message_id: str, now: datetime, body: bytes) -> str:
    try:
        return Webhook(secret).sign(message_id, now.astimezone(UTC), body.decode())
    except (ValueError, RuntimeError) as error:
        raise Reject("a webhook secret is not whsec_ and base64") from error


async def _read_some(answer: httpx.Response) -> None:
    """Read a short answer to its end, so that the connection can be used again; its status has already spoken."""
    taken = 0
    with suppress(httpx.HTTPError, httpx.StreamError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            async for chunk in answer.aiter_raw():
                taken += len(chunk)
                if taken > MOST_READ:
                    break


def _judge(answer: httpx.Response, now: datetime) -> None:
    if answer.is_success:
        return
    said = f"the receiver answered {answer.status_code}"
    if answer.status_code == HTTPStatus.GONE:
        raise Reject(said)
    if answer.is_redirect:
        raise Retry(f"{said}: redirects are not followed, give the final address")
    raise Retry(said, after=_wait(answer, now) if answer.status_code in BUSY else None)


def _wait(answer: httpx.Response, now: datetime) -> float | None:
    """Return the seconds that the answer's Retry-After asks for, None when it has none that can be read."""
    asked = answer.headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdigit():
        return min(float(asked[:9]), LONGEST_WAIT)
    try:
        until = parsedate_to_datetime(asked)
    except ValueError:
        return None
    moment = until if until.tzinfo else until.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), LONGEST_WAIT)
