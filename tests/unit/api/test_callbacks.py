"""The callback endpoint: 204 only after the commit, and never 4xx for an internal error."""

from collections.abc import Mapping
from dataclasses import replace

import anyio
import httpx
import pytest

from service.api.app import WebLimits
from service.api.request_bodies import BodyLimits
from service.domain import errors
from service.domain.tokens import TokenClaims
from tests.unit.api.fakes import FakeApplication, app_of, client_of

SMALL = WebLimits(callbacks=BodyLimits(max_bytes=100, max_total_bytes=1000, receive_timeout=30, memory_timeout=30))


async def test_callback_reaches_the_receiver_unchanged(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The receiver gets token, headers and bytes as sent; the response is 204 without a body."""
    response = await client.post("/callbacks/to-k.en_~1", content=b" {\xff}", headers={"X-HMAC-Signature": "s"})
    assert (response.status_code, response.content) == (204, b"")
    ((token, headers, body),) = fake.received
    assert (token, body, headers["x-hmac-signature"]) == ("to-k.en_~1", b" {\xff}", "s")


async def test_repeated_header_is_joined(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The signature check sees each copy of a header."""
    await client.post("/callbacks/abc", content=b"{}", headers=[("Date", "one"), ("Date", "two")])
    assert fake.received[0][1]["date"] == "one, two"


@pytest.mark.parametrize(
    ("error", "status", "verdict"),
    [
        (errors.BadToken("expired at noon"), 403, "bad_token"),
        (errors.BadSignature("stale date"), 403, "bad_signature"),
        (errors.UnreadableBody("no JSON"), 400, "refused_unreadable"),
        (errors.BodyTooLarge("decompressed"), 413, "body_too_large"),
        (errors.KeyMissing("of another process"), 503, "key_missing"),
        (errors.StoreUnavailable("disk full"), 503, "store_unavailable"),
        (errors.NotFound("no such task"), 503, "internal_error"),
        (errors.Conflict("internal"), 503, "internal_error"),
        (errors.InvalidParams([]), 503, "internal_error"),
        (errors.Throttled("internal"), 503, "internal_error"),
        (errors.SchemaBehind("internal"), 503, "internal_error"),
        (RuntimeError("a bug"), 503, "internal_error"),
        (TimeoutError("a slow disk"), 503, "internal_error"),
        (MemoryError("out of memory"), 503, "internal_error"),
    ],
)
async def test_error_of_the_receiver_decides_the_status(
    client: httpx.AsyncClient, fake: FakeApplication, error: Exception, status: int, verdict: str
) -> None:
    """Forged callbacks are 403, unreadable bodies 400, other errors 503 with Retry-After; all are counted."""
    fake.error = error
    response = await client.post("/callbacks/abc", content=b"{}")
    assert (response.status_code, "retry-after" in response.headers) == (status, status == 503)
    assert response.headers["content-type"] == "application/problem+json"
    fake.error = None
    metrics = (await client.get("/metrics")).text
    assert f'boomerang_callbacks_total{{verdict="{verdict}"}} 1.0' in metrics


async def test_response_has_no_reason_for_a_refused_token(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The response helps nobody who forges tokens."""
    fake.error = errors.BadToken("signed with key 2, expired at noon")
    response = await client.post("/callbacks/abc", content=b"{}")
    assert "noon" not in response.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/callbacks/%61bc", 204),
        ("/callbacks/a%7Eb%2ec", 204),
        ("/callbacks/abc/", 204),
        ("/callbacks/abc/?x=1", 204),
        ("/callbacks/abc%2F", 204),
        ("/callbacks/%2561bc", 403),
        ("/callbacks/abc//", 404),
        ("/callbacks/a%20b", 403),
        ("/callbacks/%00", 403),
        ("/callbacks/%ff%fe", 403),
        ("/callbacks/" + "x" * 2049, 403),
        ("/callbacks/abc?x=1", 204),
        ("/callbacks/a%2Fb", 404),
        ("/callbacks//abc", 404),
        ("/callbacks/", 404),
        ("/callbacks/abc/def", 404),
    ],
)
async def test_callback_path_spells_one_token(
    client: httpx.AsyncClient, fake: FakeApplication, path: str, status: int
) -> None:
    """An equal spelling reaches the receiver as it was sent; divided and overlong tokens do not, and are no 5xx."""
    response = await client.post(path, content=b"{}")
    assert response.status_code == status
    sent = [path.removeprefix("/callbacks/").partition("?")[0]] if status == 204 else []
    assert [token for token, _, _ in fake.received] == sent


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_other_methods_are_refused(client: httpx.AsyncClient, fake: FakeApplication, method: str) -> None:
    """Methods that no provider uses are 405 and change nothing."""
    response = await client.request(method, "/callbacks/abc")
    allowed = "GET, HEAD, OPTIONS, POST"
    assert (response.status_code, response.headers["allow"], fake.received) == (405, allowed, [])


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/callbacks/abc", "/callbacks/abc/", "/callbacks/%61bc"])
async def test_probe_of_a_good_address_has_no_effect(
    client: httpx.AsyncClient, fake: FakeApplication, method: str, path: str
) -> None:
    """Providers probe an address before they use it: 204, and nothing is recorded."""
    response = await client.request(method, path)
    assert (response.status_code, response.content, response.headers["allow"]) == (204, b"", "GET, HEAD, OPTIONS, POST")
    assert (fake.received, fake.due) == ([], [])


@pytest.mark.parametrize("path", ["/callbacks/forged", "/callbacks/a%20b"])
async def test_probe_of_a_bad_address_is_answered_like_a_callback(client: httpx.AsyncClient, path: str) -> None:
    """A forger gets no more from a probe than from a callback."""
    posted = await client.post(path, content=b"{}")
    for method in ("GET", "OPTIONS"):
        probed = await client.request(method, path)
        assert (probed.status_code, probed.json(), probed.headers.keys()) == (403, posted.json(), posted.headers.keys())
    assert (await client.head(path)).status_code == 403


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize(("size", "status"), [(100, 204), (101, 413)])
async def test_body_over_the_limit_is_413(announced: bool, size: int, status: int) -> None:
    """The limit is exact for bodies with and without Content-Length, and each refusal is counted."""
    fake = FakeApplication()

    async def streamed() -> object:
        for _ in range(size):
            yield b"x"

    content: object = b"x" * size if announced else streamed()
    async with client_of(app_of(fake, limits=SMALL)) as client:
        response = await client.post("/callbacks/abc", content=content)  # type: ignore[arg-type]  # httpx accepts both types
        metrics = (await client.get("/metrics")).text
    assert (response.status_code, bool(fake.received)) == (status, status == 204)
    assert fake.due == (["t1"] if status == 413 else [])
    assert ('verdict="body_too_large"' in metrics) is (status == 413)


async def test_response_starts_after_the_receiver_returned() -> None:
    """The response starts after the callback is durable."""
    order: list[str] = []

    class SlowReceiver(FakeApplication):
        async def receive(self, claim: TokenClaims, headers: Mapping[str, str], body: bytes) -> bool:
            await anyio.lowlevel.checkpoint()
            already_logged = await super().receive(claim, headers, body)
            order.append("durable")
            return already_logged

    app = app_of(SlowReceiver())

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Mapping[str, object]) -> None:
        order.append(str(message["type"]))

    scope = {"type": "http", "method": "POST", "path": "/callbacks/abc", "query_string": b"", "headers": []}
    await app(scope, receive, send)
    assert order == ["durable", "http.response.start", "http.response.body"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.BadToken("forged"), "forged"),
        (errors.BadToken("expired"), "expired"),
        (errors.BadToken("another_task"), "another_task"),
        (errors.BadToken("signed with key 2"), "forged"),
        (errors.BadSignature("stale"), "signature"),
        (errors.UnreadableBody("html"), "unreadable"),
        (errors.BodyTooLarge("decompressed"), "too_large"),
        (errors.KeyMissing("another process"), "key_missing"),
        (errors.StoreUnavailable("disk full"), "store_unavailable"),
        (RuntimeError("a bug"), "internal_error"),
    ],
)
async def test_refused_callback_leaves_its_reason(
    client: httpx.AsyncClient, fake: FakeApplication, error: Exception, reason: str
) -> None:
    """The receiver gets the reason and the segment as it was sent; the metrics count the reason."""
    fake.error = error
    await client.post("/callbacks/abc/", content=b"{}")
    fake.error = None
    assert (fake.refused, fake.refused_segments) == ({reason: 1}, ["abc/"])
    metrics = (await client.get("/metrics")).text
    assert f'boomerang_callbacks_refused_total{{reason="{reason}"}} 1.0' in metrics


async def test_too_large_and_misspelt_callbacks_leave_their_reason(
    client: httpx.AsyncClient, fake: FakeApplication
) -> None:
    """A body over the limit is refused before it is read, and a path that spells no token before anything else."""
    await client.post("/callbacks/abc", content=b"x" * (2 * 1024 * 1024 + 1))
    await client.post("/callbacks/a%20b", content=b"{}")
    assert fake.refused == {"too_large": 1, "forged": 1}


async def test_accepted_callbacks_are_counted_by_the_process(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The counter counts answers of this process: rows that retention deletes do not lower it."""
    for _ in range(2):
        await client.post("/callbacks/abc", content=b"{}")
    fake.gauges_now = replace(fake.gauges_now, callbacks={})
    assert 'boomerang_callbacks_total{verdict="accepted"} 2.0' in (await client.get("/metrics")).text
