"""Webhooks to endpoints: signed with the endpoint's secrets, verified by the reference library."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from handlers.webhook import MAX_KEPT, webhook
from service import Reject, Retry
from service.deliveries.handler_api import Tools
from service.domain.endpoint_secrets import EndpointSecrets
from service.domain.key_ring import KeyRing
from service.tasks.endpoint_targets import EndpointTargets
from service.tasks.secret_sealer import SecretSealer
from tests.support.delivery_builders import ManualClock, event, tools
from tests.support.endpoint_builders import KEY, OTHER_SECRET, SECRET, URL

EVENTS = 1_000


@pytest.fixture
def now() -> datetime:
    """Return the time, with which the library compares."""
    return datetime.now(UTC).replace(microsecond=0)


class _NothingStored:
    async def load(self, ids: object) -> dict[str, str]:
        raise AssertionError(f"{ids} were read")

    async def get(self, endpoint_id: str) -> None:
        raise AssertionError(f"{endpoint_id} was read")


SEALER = SecretSealer(store=_NothingStored(), keys=KeyRing([KEY]), new_id=lambda: "secret-1")


class Receiver:
    """Records requests."""

    def __init__(self, answer: httpx.Response | None = None) -> None:
        self.requests: list[httpx.Request] = []
        self.answers: list[tuple[int, bytes]] = []
        self._answer = answer
        self.http = httpx.AsyncClient(transport=httpx.MockTransport(self))

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Accept a request."""
        self.requests.append(request)
        return self._answer or httpx.Response(204)

    def tools(self, secrets: EndpointSecrets, clock: ManualClock, message_id: str = "msg_1") -> Tools:
        """Return the tools of an attempt to an endpoint with `secrets`, as the dispatcher makes them."""
        targets = EndpointTargets(endpoints=_NothingStored(), sealer=SEALER, clock=clock)
        target = targets.target("ep_1", URL, SEALER.seal_text(secrets.to_text()))
        return tools(
            self.http,
            target=target,
            now=clock.now,
            message_id=message_id,
            keep_answer=lambda status, body: self.answers.append((status, body)),
        )


@pytest.mark.parametrize("rotated", [False, True])
async def test_reference_implementation_verifies_a_thousand_events(rotated: bool, now: datetime) -> None:
    """With the only secret, and while both sign with either of them; with another one never."""
    secrets, receiver, clock = EndpointSecrets(secret=SECRET), Receiver(), ManualClock(now)
    if rotated:
        secrets = secrets.rotated(OTHER_SECRET, now - timedelta(hours=1), timedelta(hours=24))
    made = receiver.tools(secrets, clock)
    for number in range(EVENTS):
        await webhook(event(), Tools(**vars(made) | {"message_id": f"msg_{number}"}))
    assert len(receiver.requests) == EVENTS
    for number, request in enumerate(receiver.requests):
        assert request.headers["webhook-id"] == f"msg_{number}"
        for secret in [SECRET, OTHER_SECRET] if rotated else [SECRET]:
            assert Webhook(secret).verify(request.content, dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "B" * 32).verify(request.content, dict(request.headers))


async def test_replaced_secret_signs_until_the_overlap_is_over(now: datetime) -> None:
    """At its end there is one signature again, that of the new secret."""
    clock, receiver = ManualClock(now - timedelta(hours=1)), Receiver()
    secrets = EndpointSecrets(secret=SECRET).rotated(OTHER_SECRET, clock.at, timedelta(hours=1))
    for at in (now - timedelta(seconds=1), now):
        clock.at = at
        await webhook(event(), receiver.tools(secrets, clock))
    assert [len(request.headers["webhook-signature"].split()) for request in receiver.requests] == [2, 1]
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(receiver.requests[1].content, dict(receiver.requests[1].headers))


async def test_headers_of_the_endpoint_replace_none_of_the_handler(now: datetime) -> None:
    """Even headers that were stored by a release with other rules."""
    receiver = Receiver()
    headers = {"Authorization": "Bearer of-the-shop", "Webhook-Id": "forged", "Content-Type": "text/html"}
    await webhook(event(), receiver.tools(EndpointSecrets(secret=SECRET, headers=headers), ManualClock(now)))
    [request] = receiver.requests
    assert request.headers["authorization"] == "Bearer of-the-shop"
    assert request.headers.get_list("webhook-id") == ["msg_1"]
    assert request.headers.get_list("content-type") == ["application/json"]
    assert Webhook(SECRET).verify(request.content, dict(request.headers))


class _Body(httpx.AsyncByteStream):
    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


@pytest.mark.parametrize(("status", "error"), [(200, None), (500, Retry), (410, Reject)])
async def test_beginning_of_the_answer_is_kept(status: int, error: type[Exception] | None, now: datetime) -> None:
    """Whatever the status is; a long body is cut, a compressed one is not read."""
    receiver = Receiver(httpx.Response(status, stream=_Body(b"a" * MAX_KEPT, b"b" * MAX_KEPT)))
    made = receiver.tools(EndpointSecrets(secret=SECRET), ManualClock(now))
    if error:
        with pytest.raises(error):
            await webhook(event(), made)
    else:
        await webhook(event(), made)
    assert receiver.answers == [(status, b"a" * MAX_KEPT)]
    assert receiver.requests[0].headers["accept-encoding"] == "identity"
    compressed = Receiver(httpx.Response(200, headers={"content-encoding": "gzip"}, stream=_Body(b"\x1f\x8b\x08")))
    await webhook(event(), compressed.tools(EndpointSecrets(secret=SECRET), ManualClock(now)))
    assert compressed.answers == [(200, b"")]
