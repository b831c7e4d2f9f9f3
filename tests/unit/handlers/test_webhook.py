"""Webhooks exactly according to Standard Webhooks."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from handlers.webhook import MAX_DRAINED, MAX_RETRY_AFTER, webhook
from service import Reject, Retry
from service.deliveries.egress_guard import client as guarded_client
from service.deliveries.egress_policy import Egress, EgressRefused
from service.deliveries.handler_api import Tools
from service.domain.logged_event import MAX_PAYLOAD
from tests.support.delivery_builders import NOW, event, tools, view

SECRET = "whsec_" + base64.b64encode(b"n" * 32).decode()
OLD_SECRET = "whsec_" + base64.b64encode(b"o" * 32).decode()
URL = "https://receiver.example/hook"
SETTINGS = {"WEBHOOK_SECRETS": f"{SECRET}, {OLD_SECRET}", "WEBHOOK_URL": URL}


class Receiver:
    """A receiver that records its requests and returns `answer`."""

    def __init__(self, answer: Callable[[], httpx.Response] = lambda: httpx.Response(204)) -> None:
        self.requests: list[httpx.Request] = []
        self._answer = answer

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.requests.append(request)
        return self._answer()

    def tools(self, **changes: Any) -> Tools:
        """Return tools whose client reaches this receiver only."""
        defaults = {"settings": SETTINGS} | changes
        return tools(httpx.AsyncClient(transport=httpx.MockTransport(self)), **defaults)

    @property
    def request(self) -> httpx.Request:
        """The only request."""
        (request,) = self.requests
        return request


def _answering(status: int, **headers: str) -> Receiver:
    return Receiver(lambda: httpx.Response(status, headers={name.replace("_", "-"): headers[name] for name in headers}))


def _verify(secret: str, request: httpx.Request) -> Any:
    return Webhook(secret).verify(request.content, dict(request.headers))


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
async def test_reference_implementation_accepts_the_request(secret: str) -> None:
    """The reference library verifies the exact bytes with the newest secret and with the previous one."""
    receiver = Receiver()
    await webhook(event(), receiver.tools(now=lambda: datetime.now(UTC)))
    assert _verify(secret, receiver.request)["type"] == "task.completed"


async def test_changed_byte_is_detected() -> None:
    """The signature covers the body."""
    receiver = Receiver()
    await webhook(event(), receiver.tools(now=lambda: datetime.now(UTC)))
    forged = receiver.request.content.replace(b"completed", b"c0mpleted", 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(forged, dict(receiver.request.headers))


async def test_headers_follow_the_standard() -> None:
    """The id is the delivery's, the time that of the attempt in whole seconds, and each secret signs, newest first."""
    receiver = Receiver()
    await webhook(event(), receiver.tools(now=lambda: NOW))
    headers, body = receiver.request.headers, receiver.request.content.decode()
    whole = NOW.replace(microsecond=0)
    assert headers["webhook-id"] == "msg_1"
    assert headers["webhook-timestamp"] == str(int(whole.timestamp()))
    assert headers["webhook-signature"].split(" ") == [
        Webhook(secret).sign("msg_1", whole, body) for secret in (SECRET, OLD_SECRET)
    ]
    assert headers["content-type"] == "application/json"


async def test_body_is_the_documented_one() -> None:
    """The body has id, type and time of the event, and the task with payload, metadata and client; nothing else."""
    receiver = Receiver()
    await webhook(event(), receiver.tools())
    assert json.loads(receiver.request.content) == {
        "id": "event-1",
        "type": "task.completed",
        "timestamp": "2026-05-06T12:09:42.123Z",
        "data": {"task": view().to_json(), "payload": "the caller's", "metadata": {"chat": 42}, "client": "ann"},
    }


async def test_signature_covers_the_client() -> None:
    """What was signed for one client is not valid for another, though one secret signs for all."""
    receiver = Receiver()
    await webhook(replace(event(), client="bob"), receiver.tools(now=lambda: datetime.now(UTC)))
    assert _verify(SECRET, receiver.request)["data"]["client"] == "bob"
    forwarded = receiver.request.content.replace(b'"client":"bob"', b'"client":"ann"')
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(forwarded, dict(receiver.request.headers))


async def test_invalid_unicode_is_still_sent() -> None:
    """A lone surrogate in the caller's payload does not prevent the webhook."""
    receiver = Receiver()
    await webhook(replace(event(), payload="\ud800 ✓"), receiver.tools(now=lambda: datetime.now(UTC)))
    assert _verify(SECRET, receiver.request)["data"]["payload"] == "? ✓"


async def test_delivery_without_a_target_goes_to_the_operators_url() -> None:
    """A delivery that no `notify` entry requested goes to WEBHOOK_URL."""
    receiver = Receiver()
    await webhook(event(), receiver.tools())
    assert str(receiver.request.url) == URL


async def test_notify_entry_has_its_own_url_and_secret() -> None:
    """The URL of a `notify` entry is called, signed with its secret and with no other."""
    receiver, own = Receiver(), "whsec_" + base64.b64encode(b"own" * 10).decode()
    target = {"handler": "webhook", "url": "https://caller.example/in?x=1", "secret": own}
    await webhook(event(), receiver.tools(target=target, now=lambda: datetime.now(UTC)))
    assert str(receiver.request.url) == "https://caller.example/in?x=1"
    assert _verify(own, receiver.request)
    assert " " not in receiver.request.headers["webhook-signature"]


async def test_notify_entry_without_a_secret_uses_the_operators() -> None:
    """An entry without a secret is signed with the operator's."""
    receiver = Receiver()
    target = {"handler": "webhook", "url": "https://caller.example/in"}
    await webhook(event(), receiver.tools(target=target, now=lambda: datetime.now(UTC)))
    assert _verify(SECRET, receiver.request)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"WEBHOOK_URL": URL}},
        {"settings": {"WEBHOOK_URL": URL, "WEBHOOK_SECRETS": "whsec_x"}},
        {"settings": {"WEBHOOK_SECRETS": SECRET}},
        {"target": {"handler": "webhook"}},
        {"target": {"handler": "webhook", "url": "https://x.example:port/"}},
    ],
)
async def test_impossible_webhook_is_rejected_without_a_request(changes: dict[str, Any]) -> None:
    """Without a URL, or a secret that signs, nothing is sent, and no other attempt is made."""
    receiver = Receiver()
    with pytest.raises(Reject):
        await webhook(event(), receiver.tools(**changes))
    assert receiver.requests == []


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_2xx_is_delivered(status: int) -> None:
    """Every 2xx is an acknowledgement."""
    await webhook(event(), _answering(status).tools())


async def test_gone_is_a_dead_letter() -> None:
    """410 means that the receiver wants no more: a dead letter at once."""
    with pytest.raises(Reject, match="the receiver answered 410"):
        await webhook(event(), _answering(410).tools())


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500, 502])
async def test_other_responses_follow_the_schedule(status: int) -> None:
    """Every other error is retried after the delay of the schedule, regardless of Retry-After."""
    with pytest.raises(Retry, match=f"the receiver answered {status}") as later:
        await webhook(event(), _answering(status, retry_after="7").tools())
    assert later.value.after is None


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirect_is_a_failure(status: int) -> None:
    """A redirect is not followed: the second URL is never called, and the attempt has failed."""
    receiver = _answering(status, location="https://elsewhere.example/")
    with pytest.raises(Retry, match="redirects are not followed"):
        await webhook(event(), receiver.tools())
    assert str(receiver.request.url) == URL


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry_after", "after"),
    [
        ("7", timedelta(seconds=7)),
        ("Wed, 06 May 2026 12:10:42 GMT", timedelta(seconds=59.877)),
        ("Wed, 06 May 2020 12:10:42 GMT", timedelta()),
        ("9" * 400, timedelta(seconds=MAX_RETRY_AFTER)),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
async def test_busy_receiver_sets_the_delay(status: int, retry_after: str, after: timedelta | None) -> None:
    """Retry-After of 429 and 503 counts, in seconds or as a date, limited; an invalid one is ignored."""
    with pytest.raises(Retry) as later:
        await webhook(event(), _answering(status, retry_after=retry_after).tools())
    assert later.value.after == after


class Endless(httpx.AsyncByteStream):
    """A body that never ends, and counts the bytes that were read."""

    taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield kilobytes forever."""
        while True:
            self.taken += 1024
            yield b"x" * 1024


async def test_endless_response_is_cut_off() -> None:
    """Only the beginning of a response's body is read; its status is enough."""
    body = Endless()
    await webhook(event(), Receiver(lambda: httpx.Response(200, stream=body)).tools())
    assert body.taken <= MAX_DRAINED + 1024


class Broken(httpx.AsyncByteStream):
    """A body whose connection drops at once."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield one byte, then fail."""
        yield b"x"
        raise httpx.ReadError("dropped")


async def test_acknowledgement_with_a_broken_body_counts() -> None:
    """A 2xx whose body is interrupted is still an acknowledgement."""
    await webhook(event(), Receiver(lambda: httpx.Response(200, stream=Broken())).tools())


async def test_failed_connection_raises_the_error_of_the_transport() -> None:
    """Network errors are raised unchanged, so that the destination is responsible and the schedule followed."""

    def refuse() -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(httpx.ConnectError):
        await webhook(event(), Receiver(refuse).tools())


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://[::1]:9/", "http://169.254.169.254/latest"])
async def test_internal_address_is_not_connected(url: str) -> None:
    """The guarded client refuses a caller's URL inside our network before any connection."""
    async with guarded_client(Egress()) as http:
        with pytest.raises(EgressRefused):
            await webhook(event(), tools(http, settings=SETTINGS, target={"handler": "webhook", "url": url}))


@pytest.mark.parametrize("payload", ["x" * MAX_PAYLOAD, "é" * (MAX_PAYLOAD // 2), "", None])
async def test_payload_up_to_64_kib_is_posted(payload: str | None) -> None:
    """The caller's own payload comes back as it was submitted."""
    receiver = Receiver()
    await webhook(event(payload=payload), receiver.tools())
    data = json.loads(receiver.request.content)["data"]
    assert data["payload"] == payload
    assert "payload_url" not in data


@pytest.mark.parametrize(
    ("payload", "size"),
    [("x" * (MAX_PAYLOAD + 1), MAX_PAYLOAD + 1), ("é" * (MAX_PAYLOAD // 2 + 1), MAX_PAYLOAD + 2), ("x" * 2**20, 2**20)],
)
async def test_longer_payload_is_replaced_by_a_reference(payload: str, size: int) -> None:
    """The body stays small, and names the size and the path of the task that has the payload."""
    receiver = Receiver()
    await webhook(event(payload=payload), receiver.tools())
    data = json.loads(receiver.request.content)["data"]
    assert (data["payload"], data["payload_bytes"], data["payload_url"]) == (None, size, "/v1/tasks/task-1")
    assert len(receiver.request.content) < 4096


async def test_replay_has_the_id_of_the_event() -> None:
    """The message id of a replay is new; the event's id is the same, so that a receiver can deduplicate."""
    receiver = Receiver()
    for message_id in ("msg_1", "msg_2"):
        await webhook(event(), receiver.tools(message_id=message_id))
    assert [json.loads(request.content)["id"] for request in receiver.requests] == ["event-1"] * 2
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 2
