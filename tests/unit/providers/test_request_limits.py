"""Limits of one request to a provider: time, size, memory, and a connection that is released."""

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import httpx
import pytest

from service.domain.errors import ProviderUnavailable, ReplyLost
from service.domain.media.limits import InlineMedia
from service.domain.task import Status, UpstreamId
from service.providers import Vtrix, http_client
from service.providers.bounded_request import QUERY_TIMEOUTS, Timeouts
from tests.support.fake_providers import KEY, provider_request
from tests.support.sample_media import with_data_uris

ID = UpstreamId("d758n65e878c73cmdg20")
BODY = b'{"id": "d758n65e878c73cmdg20", "status": "processing"}'


def vtrix(respond: Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]) -> Vtrix:
    """Return an adapter whose requests are answered by `respond`."""
    transport = httpx.MockTransport(respond)  # type: ignore[arg-type]
    return Vtrix(transport, base_url="https://upstream.example", key=KEY)


class Stream(httpx.AsyncByteStream):
    """A body from the network; `closed` says whether its connection was released."""

    def __init__(self, *parts: bytes) -> None:
        self.parts, self.closed = parts, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the parts."""
        for part in self.parts:
            yield part

    async def aclose(self) -> None:
        """Note the end."""
        self.closed = True


@pytest.mark.parametrize("kind", ["create", "fetch"])
async def test_every_step_of_a_request_has_a_time_limit(kind: str) -> None:
    """Connecting and waiting for a connection end in time; reads and writes have the limit of the whole request."""
    seen: list[dict[str, float | None]] = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return httpx.Response(200, content=BODY)

    await (vtrix(respond).create(provider_request()) if kind == "create" else vtrix(respond).fetch(ID))
    [limits] = seen
    assert (limits["read"], limits["write"]) == (None, None)
    assert all(limit is not None and 0 < limit <= 10 for limit in (limits["connect"], limits["pool"]))


@pytest.mark.parametrize(("kind", "error"), [("create", ReplyLost), ("fetch", ProviderUnavailable)])
async def test_a_provider_that_never_answers_ends_a_request(
    kind: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole request has a time limit, after which nothing shows whether a submission was executed."""
    for name in ("CREATE_TIMEOUTS", "QUERY_TIMEOUTS"):
        monkeypatch.setattr(http_client, name, Timeouts(total=0.01))

    async def hang(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    provider = vtrix(hang)
    with pytest.raises(error):
        await (provider.create(provider_request()) if kind == "create" else provider.fetch(ID))


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("over", [0, 1])
async def test_response_up_to_the_limit_is_read(encoding: str, over: int) -> None:
    """A response of exactly the limit is read, one byte more is refused, compressed or not."""
    body = BODY + b" " * (QUERY_TIMEOUTS.max_bytes + over - len(BODY))
    stream = Stream(gzip.compress(body) if encoding == "gzip" else body)
    provider = vtrix(lambda _: httpx.Response(200, headers={"content-encoding": encoding}, stream=stream))
    if over:
        with pytest.raises(ProviderUnavailable, match="TooLarge"):
            await provider.fetch(ID)
    else:
        assert (await provider.fetch(ID)).status is Status.IN_PROGRESS
    assert stream.closed


async def test_compressed_flood_takes_no_memory() -> None:
    """A small body that unpacks to sixteen times the limit is refused before it is unpacked."""
    flood = gzip.compress(bytes(16 * QUERY_TIMEOUTS.max_bytes), compresslevel=1)
    provider = vtrix(lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Stream(flood)))
    tracemalloc.start()
    try:
        with pytest.raises(ProviderUnavailable, match="TooLarge"):
            await provider.fetch(ID)
        assert tracemalloc.get_traced_memory()[1] < 6 * QUERY_TIMEOUTS.max_bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("status", [200, 302, 429, 500])
async def test_connection_is_released_after_every_response(status: int) -> None:
    """Whatever the provider answers, its body is closed: the pool has the connection again."""
    stream = Stream(b"<html>")
    with pytest.raises(Exception, match=r"."):
        await vtrix(lambda _: httpx.Response(status, stream=stream)).fetch(ID)
    assert stream.closed


async def test_sent_body_is_the_json_of_the_request() -> None:
    """What is sent is JSON equal to the request, though inline media are copied without escaping them."""
    bodies: list[bytes] = []

    def respond(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        return httpx.Response(200, content=BODY)

    media = InlineMedia(media_type="image/png", data=bytes(range(256)) * 40)
    params = {"images": [media, "https://example.org/a.png"], "prompt": 'a "cat"\n\ud800é', "seed": 1, "audio": True}
    await vtrix(respond).create(replace(provider_request(), params=params))
    assert json.loads(bodies[0])["input"][0]["params"].items() >= with_data_uris(params).items()
