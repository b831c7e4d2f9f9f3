"""The content of stored results over HTTP: ranges, versions, redirects, refusals and signed links."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.api.content_response import ContentResponse
from service.domain.artifact import StoredContent
from service.domain.errors import ArchiveRefused, ArchiveUnavailable
from service.domain.link_tokens import LinkTokens
from service.domain.task import Status, TaskId
from service.domain.tokens import Tokens
from tests.unit.api.fakes import KEYS, NOW, FakeApplication, FakeAuditLog, a_task, app_of, client_of, stored_content

DATA = bytes(range(100))
PATH = "/v1/tasks/task-1/content"
PROVIDER = "https://cdn.example/v.mp4"


@pytest.fixture
def fake() -> FakeApplication:
    """Return an application with one completed and stored task of the client `local`."""
    fake = FakeApplication()
    fake.add(completed())
    fake.stored["file:///srv/task-1.mp4"] = stored_content(DATA)
    return fake


def completed(**changes: Any) -> Any:
    """Return a completed task with a stored video, and a second result that is not stored."""
    output = (
        {"type": "video", "url": PROVIDER, "archived_url": "file:///srv/task-1.mp4"},
        {"type": "image", "url": "https://cdn.example/cover.png"},
    )
    return a_task(**{"status": Status.COMPLETED, "output": output, **changes})


async def test_whole_content(client: httpx.AsyncClient) -> None:
    """The file comes with its type, length, version and name, and a browser may seek in it and show it."""
    reply = await client.get(PATH)
    assert (reply.status_code, reply.content) == (200, DATA)
    assert reply.headers["content-type"] == "video/mp4"
    assert reply.headers["content-length"] == "100"
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["etag"] == '"v1"'
    assert reply.headers["content-disposition"] == 'inline; filename="task-1.mp4"'
    assert reply.headers["cache-control"] == "private, no-cache"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "media-src 'self'" in reply.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("wanted", "start", "stop"), [("bytes=0-", 0, 100), ("bytes=17-42", 17, 43), ("bytes=-1", 99, 100)]
)
async def test_range(client: httpx.AsyncClient, wanted: str, start: int, stop: int) -> None:
    """A seek gets exactly the bytes that it names."""
    reply = await client.get(PATH, headers={"Range": wanted})
    assert (reply.status_code, reply.content) == (206, DATA[start:stop])
    assert reply.headers["content-range"] == f"bytes {start}-{stop - 1}/100"
    assert reply.headers["content-length"] == str(stop - start)


async def test_range_behind_the_end(client: httpx.AsyncClient) -> None:
    """The problem has the size, so that the client can ask again."""
    reply = await client.get(PATH, headers={"Range": "bytes=100-"})
    assert (reply.status_code, reply.headers["content-range"]) == (416, "bytes */100")
    assert reply.json()["type"] == "urn:boomerang:problem:range-not-satisfiable"


async def test_versions(client: httpx.AsyncClient) -> None:
    """A known version is not sent again; a range of another version is answered with the whole content."""
    reply = await client.get(PATH, headers={"If-None-Match": '"v1"', "Range": "bytes=0-1"})
    assert (reply.status_code, reply.content, reply.headers["etag"]) == (304, b"", '"v1"')
    assert "content-length" not in reply.headers
    assert (await client.get(PATH, headers={"If-Range": '"v0"', "Range": "bytes=0-1"})).status_code == 200
    assert (await client.get(PATH, headers={"If-Range": '"v1"', "Range": "bytes=0-1"})).content == DATA[:2]


async def test_head(client: httpx.AsyncClient) -> None:
    """HEAD has the headers of the whole content, whatever range it names, and reads nothing."""
    reply = await client.head(PATH, headers={"Range": "bytes=0-1"})
    assert (reply.status_code, reply.content, reply.headers["content-length"]) == (200, b"", "100")
    assert reply.headers["etag"] == '"v1"'


async def test_thumbnail(fake: FakeApplication, client: httpx.AsyncClient) -> None:
    """The thumbnail is a JPEG of its own; 404 with the reason where none can be made."""
    reply = await client.get(PATH, params={"variant": "thumbnail"})
    assert (reply.content, reply.headers["content-type"]) == (b"jpeg", "image/jpeg")
    fake.stored["file:///srv/task-1.mp4"] = stored_content(DATA, media_type="image/png")
    reply = await client.get(PATH, params={"variant": "thumbnail"})
    assert (reply.status_code, reply.json()["type"]) == (404, "urn:boomerang:problem:no-thumbnail")


async def test_store_that_signs(fake: FakeApplication, client: httpx.AsyncClient) -> None:
    """The client is sent to the store, with an address for the method that it used."""
    fake.signs = True
    for method in ("GET", "HEAD"):
        reply = await client.request(method, PATH)
        assert reply.status_code == 302
        assert reply.headers["location"] == f"https://store.example/task-1.mp4?{method}&3600"
        assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.COMPLETED])
async def test_task_that_is_not_completed(fake: FakeApplication, client: httpx.AsyncClient, status: Status) -> None:
    """There is no content before the task is completed, nor of one that failed."""
    fake.add(completed(status=status))
    assert (await client.get(PATH)).status_code == 409
    assert (await client.post("/v1/tasks/task-1/links", json={})).status_code == 409


async def test_result_that_is_not_stored(client: httpx.AsyncClient) -> None:
    """The problem has the provider's address; an output that does not exist is another one."""
    reply = await client.get(PATH, params={"output": 1})
    assert (reply.status_code, reply.json()["url"]) == (404, "https://cdn.example/cover.png")
    assert reply.json()["type"] == "urn:boomerang:problem:not-archived"
    reply = await client.get(PATH, params={"output": 2})
    assert (reply.status_code, reply.json()["type"]) == (404, "urn:boomerang:problem:not-found")


@pytest.mark.parametrize("query", ["output=-1", "output=x", "variant=audio", "output=1&output=1", "path=/etc/passwd"])
async def test_wrong_queries(client: httpx.AsyncClient, query: str) -> None:
    """Unknown parameters and values are refused."""
    assert (await client.get(f"{PATH}?{query}")).status_code == 422


@pytest.mark.parametrize("error", [ArchiveUnavailable("s3://b: 503"), ArchiveRefused("no bucket 'b'")])
async def test_archive_that_fails(fake: FakeApplication, client: httpx.AsyncClient, error: Exception) -> None:
    """The client may try again; what is wrong with the store is for the operator."""
    fake.error = error
    reply = await client.get(PATH)
    assert (reply.status_code, reply.json()["type"]) == (503, "urn:boomerang:problem:archive-unavailable")
    assert reply.headers["retry-after"]
    assert str(error) not in reply.text


async def test_failure_before_the_first_byte(fake: FakeApplication, client: httpx.AsyncClient) -> None:
    """A file that cannot be read at all is a problem and not an empty file."""

    async def read(start: int, stop: int) -> AsyncIterator[bytes]:
        if stop > start:
            raise ArchiveUnavailable("gone")
        yield b""

    fake.stored["file:///srv/task-1.mp4"] = stored_content(DATA, read=read)
    assert (await client.get(PATH)).status_code == 503


async def test_other_clients_do_not_see_it(fake: FakeApplication) -> None:
    """A client gets the content and links of its own tasks only, an admin of all; nobody without a key."""
    fake.add(completed(client="ann"))
    app = app_of(fake, api_keys=KEYS)
    for key, status in (("key-of-ann", 200), ("key-of-bob", 404), ("key-of-root", 200), (None, 401)):
        async with client_of(app, key) as client:
            assert (await client.get(PATH)).status_code == status
            reply = await client.post("/v1/tasks/task-1/links", json={})
            assert reply.status_code == (201 if status == 200 else status)


# ── links ────────────────────────────────────────────────────────────────────


async def link(client: httpx.AsyncClient, **body: Any) -> str:
    """Return the path of a new link."""
    reply = await client.post("/v1/tasks/task-1/links", json=body)
    assert reply.status_code == 201, reply.text
    return str(httpx.URL(reply.json()["url"]).raw_path.decode())


async def test_link_is_in_the_audit_log(fake: FakeApplication) -> None:
    """Who made a link that needs no key, of which task and until when, but not the link."""
    fake.add(completed(client="ann"))
    audit_log = FakeAuditLog()
    async with client_of(app_of(fake, api_keys=KEYS, audit_log=audit_log), "key-of-ann") as ann:
        await link(ann, expires_in=60)
    found = [(row.actor, row.action, row.target, row.detail) for row in audit_log.rows]
    assert found == [("ann", "task.link", "task-1", "until 2026-05-06T12:10:42.000Z")]


async def test_link_needs_no_key(fake: FakeApplication) -> None:
    """Whoever has the link gets the content, with ranges and thumbnails, and nothing else of the API."""
    fake.add(completed(client="ann"))
    app = app_of(fake, api_keys=KEYS, public_url="https://b.example/prefix")
    async with client_of(app, "key-of-ann") as ann, client_of(app) as anybody:
        reply = await ann.post("/v1/tasks/task-1/links", json={"expires_in": 60})
        assert reply.json()["url"].startswith("https://b.example/prefix/links/")
        assert reply.json()["expires_at"] == "2026-05-06T12:10:42.000Z"
        path = "/links/" + reply.json()["url"].rpartition("/")[2]
        assert (await anybody.get(path)).content == DATA
        assert (await anybody.get(path, headers={"Range": "bytes=5-9"})).content == DATA[5:10]
        assert (await anybody.get(path, params={"variant": "thumbnail"})).content == b"jpeg"
        assert (await anybody.head(path)).headers["content-length"] == "100"
        assert (await anybody.get("/v1/tasks/task-1")).status_code == 401
        assert (await anybody.get(PATH)).status_code == 401
        assert "url" not in (await anybody.get(path, params={"output": 1})).json()


async def test_link_begins_with_the_requests_address(client: httpx.AsyncClient) -> None:
    """Without PUBLIC_URL the link leads where the request came."""
    reply = await client.post("/v1/tasks/task-1/links", json={})
    assert reply.json()["url"].startswith("http://localhost/links/")
    assert reply.json()["expires_at"] == "2026-05-06T13:09:42.000Z"


async def test_link_ends(fake: FakeApplication, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its expiry on it is refused, and so is every changed one; the refusal says nothing of the task."""
    path = await link(client, expires_in=60)
    for seconds, status in ((0, 200), (59, 200), (60, 403), (10**6, 403)):
        monkeypatch.setattr(fake, "now", lambda seconds=seconds: NOW + timedelta(seconds=seconds))
        assert (await client.get(path)).status_code == status
    monkeypatch.undo()
    token = path.rpartition("/")[2]
    for changed in (token[:-1], token + "A", token.replace("task-1", "task-2"), token.swapcase(), "x", "a" * 5000):
        reply = await client.get(f"/links/{changed}")
        assert (reply.status_code, "task" in reply.text) == (403, False)


async def test_link_is_no_other_token(client: httpx.AsyncClient) -> None:
    """A callback's token opens no content, although the same key signs it."""
    tokens = Tokens(["a signing key of the tests"])
    for token in (
        tokens.callback_token(TaskId("task-1"), 1, NOW + timedelta(days=1)),
        tokens.payload_token(TaskId("task-1"), 1),
    ):
        assert (await client.get(f"/links/{token}")).status_code == 403


async def test_link_ends_with_the_content(fake: FakeApplication, client: httpx.AsyncClient) -> None:
    """Once the results of a task are erased, its links show nothing."""
    path = await link(client)
    fake.add(replace(completed(), output=()))
    assert (await client.get(path)).status_code == 404
    del fake.tasks_by_id["task-1"]
    assert (await client.get(path)).status_code == 403


async def test_links_outlive_a_new_key(fake: FakeApplication, client: httpx.AsyncClient) -> None:
    """A link stays valid while its key is known; where another process may know the key the answer is 503."""
    old = fake.link_tokens
    path = await link(client)
    fake.link_tokens = LinkTokens(["a newer key", "a signing key of the tests"])
    assert (await client.get(path)).status_code == 200
    fake.link_tokens = LinkTokens(["a newer key"])
    assert (await client.get(path)).status_code == 403
    fake.link_tokens = LinkTokens(["a newer key"], may_lack_keys=lambda: True)
    assert (await client.get(path)).status_code == 503
    fake.link_tokens = old


@pytest.mark.parametrize("body", [*({"expires_in": each} for each in (9, 604_801, 60.5, "60", True)), {"days": 1}, []])
async def test_wrong_link_requests(client: httpx.AsyncClient, body: Any) -> None:
    """The time of a link is bounded, and unknown fields are refused."""
    assert (await client.post("/v1/tasks/task-1/links", json=body)).status_code == 422


async def test_whole_number_is_an_integer_in_each_notation(client: httpx.AsyncClient) -> None:
    """JSON has one kind of number: 60.0 is the integer that the document asks for."""
    assert (await client.post("/v1/tasks/task-1/links", json={"expires_in": 60.0})).status_code == 201


async def test_signed_address_of_a_link_ends_with_it(fake: FakeApplication, client: httpx.AsyncClient) -> None:
    """A link that is followed late leads to the store for its remaining time only."""
    fake.signs = True
    path = await link(client, expires_in=60)
    assert (await client.get(path)).headers["location"].endswith("&60")


async def test_reader_that_leaves_closes_the_file() -> None:
    """The source is closed when the client stops reading in the middle."""
    closed = []

    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(10)
        finally:
            closed.append(True)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the connection is closed")

    async def receive() -> Any:
        raise AssertionError

    with pytest.raises(OSError, match="is closed"):
        await ContentResponse(parts(), 200, {}, "video/mp4")({"type": "http"}, receive, send)
    assert closed == [True]


def test_content_is_no_secret() -> None:
    """The repr of a content has no function and no path."""
    assert "/" not in repr(replace(stored_content(DATA), media_type="video"))
    assert isinstance(stored_content(DATA), StoredContent)
