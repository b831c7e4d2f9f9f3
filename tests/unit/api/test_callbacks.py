"""Where the upstream calls back: acknowledged only when durable, and never blamed for our faults."""

from collections.abc import Mapping

import anyio
import httpx
import pytest

from service.api.app import WebLimits
from service.api.request_bodies import BodyLimits
from service.domain import errors
from service.domain.tokens import TokenClaims
from tests.unit.api.fakes import FakeApplication, app_of, client_of

SMALL = WebLimits(callbacks=BodyLimits(max_bytes=100, max_total_bytes=1000, receive_timeout=30, memory_timeout=30))


async def test_a_callback_is_handed_on_raw_and_answered_204(client: httpx.AsyncClient, world: FakeApplication) -> None:
    """Token, headers and bytes reach the receiver as they came; the answer has no body."""
    answer = await client.post("/callbacks/to-k.en_~1", content=b" {\xff}", headers={"X-HMAC-Signature": "s"})
    assert (answer.status_code, answer.content) == (204, b"")
    ((token, headers, body),) = world.received
    assert (token, body, headers["x-hmac-signature"]) == ("to-k.en_~1", b" {\xff}", "s")


async def test_a_repeated_header_is_joined(client: httpx.AsyncClient, world: FakeApplication) -> None:
    """No copy of a signature's header is overlooked."""
    await client.post("/callbacks/abc", content=b"{}", headers=[("Date", "one"), ("Date", "two")])
    assert world.received[0][1]["date"] == "one, two"


@pytest.mark.parametrize(
    ("error", "status", "verdict"),
    [
        (errors.BadToken("expired at noon"), 403, "bad_token"),
        (errors.BadSignature("stale date"), 403, "bad_signature"),
        (errors.UnreadableBody("no JSON"), 400, "refused_unreadable"),
        (errors.StoreUnavailable("disk full"), 503, "store_unavailable"),
        (errors.NotFound("no such task"), 503, "internal_error"),
        (errors.Conflict("ours"), 503, "internal_error"),
        (errors.InvalidParams([]), 503, "internal_error"),
        (errors.Throttled("ours"), 503, "internal_error"),
        (errors.SchemaBehind("ours"), 503, "internal_error"),
        (RuntimeError("a bug"), 503, "internal_error"),
        (TimeoutError("a slow disk"), 503, "internal_error"),
        (MemoryError("no room"), 503, "internal_error"),
    ],
)
async def test_what_the_receiver_raises_decides_the_answer(
    client: httpx.AsyncClient, world: FakeApplication, error: Exception, status: int, verdict: str
) -> None:
    """Forgeries are 403, unreadable bodies 400, everything else is our fault and may be sent again; all are counted."""
    world.fails = error
    answer = await client.post("/callbacks/abc", content=b"{}")
    assert (answer.status_code, "retry-after" in answer.headers) == (status, status == 503)
    assert answer.headers["content-type"] == "application/problem+json"
    world.fails = None
    metrics = (await client.get("/metrics")).text
    assert f'boomerang_callbacks_total{{verdict="{verdict}"}} 1.0' in metrics


async def test_why_a_token_is_refused_is_not_told(client: httpx.AsyncClient, world: FakeApplication) -> None:
    """A forger learns nothing from the answer."""
    world.fails = errors.BadToken("signed with key 2, expired at noon")
    answer = await client.post("/callbacks/abc", content=b"{}")
    assert "noon" not in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/callbacks/%61bc", 403),
        ("/callbacks/a%20b", 403),
        ("/callbacks/%00", 403),
        ("/callbacks/%ff%fe", 403),
        ("/callbacks/" + "x" * 2049, 403),
        ("/callbacks/abc?x=1", 204),
        ("/callbacks/a%2Fb", 404),
        ("/callbacks/abc/", 404),
        ("/callbacks//abc", 404),
        ("/callbacks/", 404),
        ("/callbacks/abc/def", 404),
    ],
)
async def test_an_address_that_we_did_not_write_is_refused(
    client: httpx.AsyncClient, world: FakeApplication, path: str, status: int
) -> None:
    """Encoded, divided and overlong tokens never reach the receiver and are no fault of ours."""
    answer = await client.post(path, content=b"{}")
    assert answer.status_code == status
    assert bool(world.received) is (status == 204)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_only_post_calls_back(client: httpx.AsyncClient, world: FakeApplication, method: str) -> None:
    """Other methods are 405 and change nothing."""
    answer = await client.request(method, "/callbacks/abc")
    assert (answer.status_code, answer.headers["allow"], world.received) == (405, "POST", [])


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(("size", "status"), [(100, 204), (101, 413)])
async def test_a_body_over_the_limit_is_413(announced: bool, size: int, status: int) -> None:
    """The limit holds for announced and for streamed bodies, to the byte, and refusals are counted."""
    world = FakeApplication()

    async def streamed() -> object:
        for _ in range(size):
            yield b"x"

    content: object = b"x" * size if announced else streamed()
    async with client_of(app_of(world, limits=SMALL)) as client:
        answer = await client.post("/callbacks/abc", content=content)  # type: ignore[arg-type]  # either kind is content
        metrics = (await client.get("/metrics")).text
    assert (answer.status_code, bool(world.received)) == (status, status == 204)
    assert ('verdict="body_too_large"' in metrics) is (status == 413)


async def test_nothing_is_acknowledged_before_the_receiver_returned() -> None:
    """The first byte of the answer is sent after the record is durable."""
    order: list[str] = []

    class Slow(FakeApplication):
        async def receive(self, claim: TokenClaims, headers: Mapping[str, str], body: bytes) -> bool:
            await anyio.lowlevel.checkpoint()
            told = await super().receive(claim, headers, body)
            order.append("durable")
            return told

    app = app_of(Slow())

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Mapping[str, object]) -> None:
        order.append(str(message["type"]))

    scope = {"type": "http", "method": "POST", "path": "/callbacks/abc", "query_string": b"", "headers": []}
    await app(scope, receive, send)
    assert order == ["durable", "http.response.start", "http.response.body"]
