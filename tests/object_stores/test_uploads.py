"""Results in an S3 bucket: complete objects only, uploaded while they arrive, and no parts of others."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import httpx
import pytest

from handlers.archive import archive
from service import Retry
from service.deliveries.handler_api import Tools
from service.domain.artifact import Artifact
from service.domain.errors import ArchiveRefused, ArchiveUnavailable
from tests.support.delivery_builders import Results, event, tools, view
from tests.support.file_server import URL, VIDEO, FileServer
from tests.support.object_stores import SECRET, Bucket, faulty_proxy
from tests.support.sample_media import image

MB = 1024**2
LARGE = VIDEO + (12 * MB).to_bytes(4, "big") + b"free" + bytes(12 * MB - 8)
"""A playable video of three parts."""


class Provider:
    """A provider's file server with one video, and what the handler recorded."""

    def __init__(self, content: bytes | AsyncIterator[bytes] = VIDEO) -> None:
        self.server, self.results = FileServer(), Results()
        self.server.respond(URL, httpx.Response(200, content=content))

    def tools(self, bucket: Bucket, endpoint: str | None = None) -> Tools:
        """Return tools with the archive in `bucket`."""
        return tools(self.tools_http(), results=self.results, archive=bucket.archive(endpoint))

    def tools_http(self) -> httpx.AsyncClient:
        """Return a client that reaches only the file server."""
        return httpx.AsyncClient(transport=httpx.MockTransport(self.server))


async def signed(bucket: Bucket) -> httpx.Response:
    """Return the stored video, by an address that the store signs."""
    url = await bucket.archive().sign("task-1.mp4", "GET", timedelta(minutes=5))
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(str(url))


async def test_result_is_stored_under_its_tasks_key(bucket: Bucket) -> None:
    """The object has a key of task and output, its media type and a file name; the artifact has its SHA-256."""
    provider = Provider()
    await archive(event(), provider.tools(bucket))
    stored = await signed(bucket)
    assert stored.content == VIDEO
    assert stored.headers["content-type"] == "video/mp4"
    assert stored.headers["content-disposition"] == 'inline; filename="task-1.mp4"'
    assert provider.results.artifacts == [
        Artifact(
            url=URL,
            archived_url=f"s3://{bucket.name}/videos/2026/task-1.mp4",
            media_type="video/mp4",
            bytes=len(VIDEO),
            sha256=hashlib.sha256(VIDEO).hexdigest(),
            output=0,
        )
    ]


async def test_running_twice_fetches_once(bucket: Bucket) -> None:
    """A second run, as after a crash before the record, reads the stored object and records the same artifact."""
    provider = Provider()
    await archive(event(), provider.tools(bucket))
    await archive(event(), provider.tools(bucket))
    assert provider.server.requests == [URL]
    assert provider.results.artifacts[0] == provider.results.artifacts[1]


async def test_large_result_is_uploaded_while_it_arrives(bucket: Bucket) -> None:
    """The first part is at the store before the provider sends the last one; no unfinished upload remains."""
    began: list[list[str]] = []

    async def content() -> AsyncIterator[bytes]:
        for at in range(0, len(LARGE), MB):
            if at == 11 * MB:
                began.append(await asyncio.to_thread(bucket.uploads))
            yield LARGE[at : at + MB]

    await archive(event(), Provider(content()).tools(bucket))
    assert began == [["videos/2026/task-1.mp4"]]
    assert bucket.uploads() == []
    assert hashlib.sha256(bucket.get("videos/2026/task-1.mp4").content).digest() == hashlib.sha256(LARGE).digest()


@pytest.mark.parametrize("content", [LARGE + (100).to_bytes(4, "big") + b"mdat", VIDEO[:-500]])
async def test_truncated_result_leaves_nothing(bucket: Bucket, content: bytes) -> None:
    """A file that ends inside a box is refused when its last byte came: there is no object and no part of one."""
    with pytest.raises(Retry, match="not what it claims to be"):
        await archive(event(), Provider(content).tools(bucket))
    assert (bucket.keys(), bucket.uploads()) == ([], [])


async def test_result_of_another_type_leaves_nothing(bucket: Bucket) -> None:
    """A page in place of a video is refused before anything is sent."""
    with pytest.raises(Retry, match="served png, not video"):
        await archive(event(), Provider(image()).tools(bucket))
    assert (bucket.keys(), bucket.uploads()) == ([], [])


async def test_source_that_dies_leaves_nothing(bucket: Bucket) -> None:
    """A provider that closes the connection in the middle aborts the upload."""

    async def content() -> AsyncIterator[bytes]:
        for at in range(0, 11 * MB, MB):
            yield LARGE[at : at + MB]
        raise httpx.ReadError("closed")

    with pytest.raises(httpx.ReadError):
        await archive(event(), Provider(content()).tools(bucket))
    assert (bucket.keys(), bucket.uploads()) == ([], [])


@pytest.mark.parametrize("how", ["task", "scope"])
async def test_cancelled_upload_leaves_nothing(bucket: Bucket, how: str) -> None:
    """A shutdown, and the end of an attempt's time, abort the upload before they end the handler."""
    sent = asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        for at in range(0, 11 * MB, MB):
            yield LARGE[at : at + MB]
        sent.set()
        await asyncio.Event().wait()

    given = Provider(content()).tools(bucket)

    async def run() -> None:
        await archive(event(), given)

    if how == "task":
        running = asyncio.create_task(run())
        await sent.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await sent.wait()
            group.cancel_scope.cancel()
    assert (bucket.keys(), bucket.uploads()) == ([], [])


async def test_missing_bucket_names_the_fix(s3_server: str) -> None:
    """A bucket that does not exist is the operator's fault, and the message has the fix."""
    missing = Bucket(server=s3_server, name="no-such-bucket")
    with pytest.raises(ArchiveRefused, match=r"no bucket 'no-such-bucket'.*make it, or correct BOOMERANG_ARCHIVE_URL"):
        await archive(event(), Provider().tools(missing))


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("403 AccessDenied", "access to s3://.* is denied .*need permission"),
        ("403 InvalidAccessKeyId", "does not accept the credentials"),
        ("403 SignatureDoesNotMatch", "does not accept the credentials"),
        ("403 RequestTimeTooSkewed", "set its clock"),
        ("400 AuthorizationHeaderMalformed", "BOOMERANG_ARCHIVE_REGION"),
        ("400 MalformedXML", "check the BOOMERANG_ARCHIVE settings"),
    ],
)
async def test_refusals_are_plain(bucket: Bucket, fault: str, text: str) -> None:
    """A refusal of the store is the operator's fault; its message has the fix and no secret."""
    async with faulty_proxy(bucket.server) as proxy:
        proxy.faults = {"PUT": [f"{fault}*"]}
        with pytest.raises(ArchiveRefused, match=text) as refusal:
            await archive(event(), Provider().tools(bucket, proxy.address))
    assert SECRET not in str(refusal.value)
    assert "<" not in str(refusal.value)


@pytest.mark.parametrize(
    "faults",
    [
        {"PUT": ["500", "503 ServiceUnavailable", "500"]},
        {"PUT": ["cut", "cut"]},
        {"PUT": ["half"], "POST": ["500"]},
        {"POST": ["slow", "500"], "PUT": ["slow", "slow"]},
    ],
)
async def test_passing_faults_of_the_store_are_survived(bucket: Bucket, faults: dict[str, list[str]]) -> None:
    """Errors, cut connections and slow answers of the store do not change what is stored."""
    async with faulty_proxy(bucket.server) as proxy:
        proxy.faults = faults
        await archive(event(), Provider(LARGE).tools(bucket, proxy.address))
    assert not any(proxy.faults.values())
    assert len(bucket.get("videos/2026/task-1.mp4").content) == len(LARGE)
    assert bucket.keys() == ["videos/2026/task-1.mp4"]


@pytest.mark.parametrize(
    "faults",
    [
        {"PUT": ["503 ServiceUnavailable*"]},
        {"PUT": ["", "", "503 ServiceUnavailable*"]},
        {"POST": ["", "503 ServiceUnavailable*"]},
    ],
    ids=["first part", "last part", "completion"],
)
async def test_store_that_keeps_failing_is_tried_later(bucket: Bucket, faults: dict[str, list[str]]) -> None:
    """A part or an end that cannot be stored ends the attempt, and the upload is aborted.

    The last part is in flight when the end of the file is known: as in apache/arrow-rs-object-store#818.
    """
    async with faulty_proxy(bucket.server) as proxy:
        proxy.faults = faults
        with pytest.raises(ArchiveUnavailable, match=r"no usable answer \(503 ServiceUnavailable\)"):
            await archive(event(), Provider(LARGE).tools(bucket, proxy.address))
    assert any(request.startswith("DELETE") for request in proxy.requests)
    assert (bucket.keys(), bucket.uploads()) == ([], [])


async def test_store_that_is_away_is_tried_later(bucket: Bucket) -> None:
    """An address where nobody listens is no refusal."""
    with pytest.raises(ArchiveUnavailable, match="cannot be reached"):
        await archive(event(), Provider().tools(bucket, "http://127.0.0.1:1"))


async def test_credentials_without_listing_can_store(bucket: Bucket) -> None:
    """S3 answers 403 for a missing object where the credentials may not list: it counts as missing."""
    async with faulty_proxy(bucket.server) as proxy:
        proxy.faults = {"HEAD": ["403*"]}
        await archive(event(), Provider().tools(bucket, proxy.address))
    assert bucket.keys() == ["videos/2026/task-1.mp4"]


async def test_signed_address_needs_no_key(bucket: Bucket) -> None:
    """The store itself answers it, with ranges."""
    target = bucket.archive()
    await archive(event(), Provider().tools(bucket))
    url = await target.sign("task-1.mp4", "GET", timedelta(minutes=5))
    assert url is not None
    async with httpx.AsyncClient(trust_env=False) as client:
        reply = await client.get(url, headers={"range": "bytes=0-9"})
    assert (reply.status_code, reply.content) == (206, VIDEO[:10])
    assert await bucket.archive(signs=False).sign("task-1.mp4", "GET", timedelta(minutes=5)) is None


async def test_each_output_has_its_own_key(bucket: Bucket) -> None:
    """Several outputs of a task are stored beside each other, with the extensions of their types."""
    provider, cover = Provider(), "https://files.example/cover"
    provider.server.respond(cover, httpx.Response(200, content=image("JPEG")))
    output = [{"type": "video", "url": URL}, {"type": "image", "url": cover}]
    await archive(event(task=view(output=output)), provider.tools(bucket))
    assert sorted(bucket.keys()) == ["videos/2026/task-1-2.jpg", "videos/2026/task-1.mp4"]
    assert [each.output for each in provider.results.artifacts] == [0, 1]
