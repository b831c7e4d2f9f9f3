"""HTTP requests to each provider, and their responses."""

import asyncio
import json
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from service.domain.errors import BadSetting, Conflict, ProviderUnavailable, Refused
from service.domain.ports.provider import ProviderRequest
from service.domain.task import Status, UpstreamId
from service.providers import PooledTransport, RateLimitedClient, Vtrix, open_provider
from tests.support.fake_providers import KEY, MockProvider, provider_request

ID = UpstreamId("d758n65e878c73cmdg20")
SINCE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
UNTIL = datetime(2026, 1, 2, 4, 0, 0, tzinfo=UTC)
URL = "https://provider.test/api"


async def test_vtrix_request_has_the_parameters_inside_input() -> None:
    """A Vtrix submission has the model at the top, parameters and tokens in `input[0].params`, and a Bearer key."""
    provider = MockProvider(httpx.Response(200, json={"id": ID, "status": "in_progress", "progress": 0.5}))
    fact = await provider.vtrix().create(provider_request(images=["https://example.org/a.png"], videos=[], seed=None))
    (request,) = provider.seen
    assert (request.method, str(request.url)) == ("POST", "https://vtrix.test/model/v1/generation")
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Content-Length"] == str(len(request.content))
    assert "Transfer-Encoding" not in request.headers
    params = {
        "prompt": "a cat",
        "images": ["https://example.org/a.png"],
        "payload": "token-1",
        "meta_data": '{"boomerang_task": "t1"}',
        "callback_url": "https://example.org/callbacks/abc",
    }
    assert json.loads(request.content) == {"model": "viduq2_pro_reference", "input": [{"params": params}]}
    assert (fact.status, fact.upstream_id, fact.progress) == (Status.IN_PROGRESS, ID, 0.5)


async def test_vidu_request_is_flat_with_known_fields_only() -> None:
    """A Vidu submission is flat, has Vidu's model name, omits unknown fields, and has a Token key."""
    created = {"task_id": ID, "state": "created", "credits": 4, "payload": "token-1"}
    provider = MockProvider(httpx.Response(200, json=created))
    fact = await provider.vidu().create(
        provider_request(duration=5, bgm=True, unheard_of=1, callback_url="https://caller.test")
    )
    (request,) = provider.seen
    assert (request.method, str(request.url)) == ("POST", "https://vidu.test/ent/v2/reference2video")
    assert request.headers["Authorization"] == f"Token {KEY}"
    assert json.loads(request.content) == {
        "model": "viduq2-pro",
        "prompt": "a cat",
        "duration": 5,
        "bgm": True,
        "payload": "token-1",
        "meta_data": '{"boomerang_task": "t1"}',
        "callback_url": "https://example.org/callbacks/abc",
    }
    assert (fact.status, fact.upstream_id, fact.correlation) == (Status.IN_PROGRESS, ID, "token-1")


async def test_missing_tokens_are_not_sent() -> None:
    """Without a public address and metadata, only the payload token is sent, and never the caller's own values."""
    provider = MockProvider(httpx.Response(200, json={"id": ID, "status": "queued"}))
    params = {"prompt": "x", "payload": "caller's", "callback_url": "https://caller.test", "meta_data": "caller's"}
    await provider.vtrix().create(ProviderRequest(model="viduq2_pro_reference", params=params, payload="token-1"))
    sent = json.loads(provider.seen[0].content)["input"][0]["params"]
    assert sent == {"prompt": "x", "payload": "token-1"}


async def test_large_body_is_sent_completely() -> None:
    """Fifteen megabytes of inline media arrive unchanged."""
    media = "data:image/png;base64," + "A" * 15_000_000
    provider = MockProvider(httpx.Response(200, json={"id": ID, "status": "queued"}))
    await provider.vtrix().create(provider_request(images=[media], prompt='é "quoted" 🎬'))
    sent = json.loads(provider.seen[0].content)["input"][0]["params"]
    assert sent["images"] == [media]
    assert sent["prompt"] == 'é "quoted" 🎬'


async def test_sent_bytes_are_released_before_the_reply() -> None:
    """Memory holds a large body once while it is sent, beside the caller's parameters, and not at all afterwards."""
    media = "data:image/png;base64," + "A" * 8_000_000
    held: list[int] = []

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        left = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while left:
            left -= len(await reader.read(65536))
        held.append(tracemalloc.get_traced_memory()[0])
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n{"id": "abc", "status": "queued"}')
        writer.close()

    server = await asyncio.start_server(reply, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, PooledTransport() as transport:
        tracemalloc.start()
        try:
            await Vtrix(transport, base_url=url, key=KEY).create(provider_request(images=[media]))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert held[0] < 4_000_000
    assert peak < 4 * len(media)


async def test_vidu_adapter_refuses_an_unknown_model() -> None:
    """A model without a Vidu name is refused before anything is sent."""
    provider = MockProvider(httpx.Response(200))
    with pytest.raises(Refused, match="ModelUnavailable"):
        await provider.vidu().create(ProviderRequest(model="other", params={}, payload="t"))
    assert not provider.seen


@pytest.mark.parametrize(
    ("name", "url", "body"),
    [
        (
            "vtrix",
            f"https://vtrix.test/model/v1/generation/task/{ID}",
            {"id": ID, "status": "failed", "error": "no"},
        ),
        ("vidu", f"https://vidu.test/ent/v2/tasks/{ID}/creations", {"state": "failed", "err_code": "no"}),
    ],
)
async def test_poll_requests_one_task(name: str, url: str, body: dict[str, Any]) -> None:
    """A poll is a GET of the provider's address; the fact has the id even if the body has none."""
    provider = MockProvider(httpx.Response(200, json=body))
    fact = await getattr(provider, name)().fetch(ID)
    assert (provider.seen[0].method, str(provider.seen[0].url)) == ("GET", url)
    assert (fact.status, fact.upstream_id) == (Status.FAILED, ID)


async def test_vidu_cancel_has_the_id_in_the_body() -> None:
    """A cancel names the task in path and body, as Vidu's page requires."""
    provider = MockProvider(httpx.Response(200, json={}))
    await provider.vidu().cancel(ID)
    assert str(provider.seen[0].url) == f"https://vidu.test/ent/v2/tasks/{ID}/cancel"
    assert json.loads(provider.seen[0].content) == {"id": ID}


async def test_refused_cancel_carries_the_reason() -> None:
    """Conflict carries the provider's reason."""
    body = {
        "code": 400,
        "reason": "BadRequest",
        "message": "task state is scheduled, can not cancel",
        "metadata": {},
    }
    with pytest.raises(Conflict, match="can not cancel"):
        await MockProvider(httpx.Response(400, json=body)).vidu().cancel(ID)


async def test_vtrix_has_no_cancel_and_no_list() -> None:
    """Neither sends a request."""
    provider = MockProvider(httpx.Response(200))
    vtrix = provider.vtrix()
    with pytest.raises(Conflict, match="Vtrix has no cancel"):
        await vtrix.cancel(ID)
    assert await vtrix.find("token-1".__eq__, since=SINCE, until=UNTIL) is None
    assert not vtrix.lists
    assert not provider.seen


def list_entry(number: int, payload: str) -> dict[str, Any]:
    """Return an entry of Vidu's list."""
    return {"id": f"task{number}", "state": "processing", "payload": payload}


def paged_provider(pages: dict[str, httpx.Response]) -> MockProvider:
    """Return a provider whose list continues by page token, starting with ""."""
    return MockProvider(lambda request: pages[request.url.params.get("pager.page_token", "")])


async def test_vidu_finds_a_submission_by_its_payload() -> None:
    """The list of the time range is read page by page until the payload is found."""
    first = httpx.Response(200, json={"tasks": [list_entry(1, "a"), {"id": 3}, "odd"], "next_page_token": "p2"})
    second = httpx.Response(200, json={"tasks": [list_entry(2, "token-1")], "next_page_token": "p3"})
    provider = paged_provider({"": first, "p2": second})
    vidu = provider.vidu()
    fact = await vidu.find("token-1".__eq__, since=SINCE, until=UNTIL)
    assert fact is not None
    assert (fact.upstream_id, fact.correlation) == ("task2", "token-1")
    assert vidu.lists
    query = provider.seen[0].url.params
    assert (query["created_at.from"], query["created_at.to"]) == ("2026-01-02T03:04:05Z", "2026-01-02T04:00:00Z")
    assert len(provider.seen) == 2


async def test_search_of_a_complete_list_without_the_payload_is_none() -> None:
    """The search returns None after the whole list was read."""
    provider = paged_provider({"": httpx.Response(200, json={"tasks": [list_entry(1, "a")]})})
    assert await provider.vidu().find("token-1".__eq__, since=SINCE, until=UNTIL) is None


async def test_full_page_without_a_token_continues_by_page_number() -> None:
    """A list without page tokens is also read to its end."""

    def reply(request: httpx.Request) -> httpx.Response:
        count = 50 if request.url.params["paper.page"] == "0" else 3
        return httpx.Response(200, json={"tasks": [list_entry(number, "a") for number in range(count)]})

    provider = MockProvider(reply)
    assert await provider.vidu().find("token-1".__eq__, since=SINCE, until=UNTIL) is None
    assert [request.url.params["paper.page"] for request in provider.seen] == ["0", "1"]


async def test_search_of_an_endless_list_is_provider_unavailable() -> None:
    """After the maximum of pages the search raises: the absence of the task is not certain."""
    tokens = iter(range(1000))
    provider = MockProvider(lambda _: httpx.Response(200, json={"tasks": [], "next_page_token": str(next(tokens))}))
    with pytest.raises(ProviderUnavailable, match="40 pages"):
        await provider.vidu().find("token-1".__eq__, since=SINCE, until=UNTIL)
    assert len(provider.seen) == 40


@pytest.mark.parametrize("body", [[], {"tasks": {}}])
async def test_unreadable_list_is_provider_unavailable(body: Any) -> None:
    """A response without a list of tasks is ProviderUnavailable."""
    with pytest.raises(ProviderUnavailable):
        await MockProvider(httpx.Response(200, json=body)).vidu().find("token-1".__eq__, since=SINCE, until=UNTIL)


@pytest.mark.parametrize("key", ["", "with space", "line\nbreak", "schlüssel"])
def test_key_that_a_header_cannot_hold_is_refused_without_showing_it(key: str) -> None:
    """A bad key prevents the start, and the message does not contain it."""
    with pytest.raises(BadSetting) as refused:
        Vtrix(PooledTransport(), base_url="https://vtrix.test", key=key)
    assert not key or key not in str(refused.value)


@pytest.mark.parametrize("url", ["ftp://a.test", "vtrix.test", "https://a.test?x=1", "https://", "http://[::1"])
def test_unusable_address_is_refused(url: str) -> None:
    """A bad provider address prevents the start."""
    with pytest.raises(BadSetting, match="UPSTREAM_URL"):
        Vtrix(PooledTransport(), base_url=url, key=KEY)


@pytest.mark.parametrize("provider", ["vtrix", "vidu"])
async def test_open_provider_opens_each_provider(provider: str) -> None:
    """Requests go to the configured provider at the configured address."""
    double = MockProvider(httpx.Response(404))
    upstream = open_provider(provider, transport=double.transport, base_url=URL, key=KEY, rate=10, concurrency=2)
    with pytest.raises(Exception, match="Not Found"):
        await upstream.fetch(ID)
    assert isinstance(upstream, RateLimitedClient)
    assert upstream.name == provider
    assert str(double.seen[0].url).startswith(URL + "/")


def test_unknown_provider_is_refused() -> None:
    """A misspelt provider prevents the start, and the message lists the allowed ones."""
    with pytest.raises(BadSetting, match="vtrix, vidu"):
        open_provider("vudi", transport=PooledTransport(), base_url=URL, key=KEY, rate=1, concurrency=1)
