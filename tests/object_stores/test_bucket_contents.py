"""Content in an S3 bucket: parts, faults of the store, thumbnails."""

from datetime import timedelta

import httpx
import pytest

from service.artifacts import bucket_archive
from service.artifacts.contents import Contents
from service.domain.artifact import StoredContent
from service.domain.errors import ArchiveRefused, ArchiveUnavailable
from tests.support.file_server import VIDEO
from tests.support.object_stores import Bucket, faulty_proxy

ITEM = "task-1.mp4"


async def stored(bucket: Bucket, endpoint: str | None = None) -> tuple[Contents, StoredContent]:
    """Store the video, and return it as content by an endpoint."""
    await bucket.archive().write_small(ITEM, VIDEO, "video/mp4")
    contents = Contents(archive=bucket.archive(endpoint))
    content = await contents.find({"archived_url": bucket.address.url_of(ITEM)})
    assert content is not None
    return contents, content


async def read(content: StoredContent, start: int, stop: int) -> list[bytes]:
    """Return the parts of a content."""
    return [part async for part in content.read(start, stop)]


async def test_parts_are_bounded(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader holds one part in memory, and a slow one keeps no request open."""
    monkeypatch.setattr(bucket_archive, "READ_SIZE", 1000)
    _, content = await stored(bucket)
    parts = await read(content, 0, content.size)
    assert [len(part) for part in parts[:-1]] == [1000] * (len(VIDEO) // 1000)
    assert b"".join(parts) == VIDEO
    assert b"".join(await read(content, 990, 1010)) == VIDEO[990:1010]


@pytest.mark.parametrize("faults", [["500", "503 ServiceUnavailable"], ["cut", "half"], ["slow", "500", "slow"]])
async def test_passing_faults_are_not_seen(bucket: Bucket, faults: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that fails is repeated by itself."""
    monkeypatch.setattr(bucket_archive, "READ_SIZE", 1000)
    async with faulty_proxy(bucket.server) as proxy:
        _, content = await stored(bucket, proxy.address)
        proxy.faults = {"GET": faults}
        assert b"".join(await read(content, 0, content.size)) == VIDEO
        assert proxy.faults == {"GET": []}


async def test_lasting_faults_are_named(bucket: Bucket) -> None:
    """A store that keeps failing is unavailable, one that refuses is the operator's matter, a lost object is gone."""
    async with faulty_proxy(bucket.server) as proxy:
        contents, content = await stored(bucket, proxy.address)
        proxy.faults = {"GET": ["500*"]}
        with pytest.raises(ArchiveUnavailable):
            await read(content, 0, 10)
        proxy.faults = {"GET": ["403 AccessDenied*"]}
        with pytest.raises(ArchiveRefused, match="access to"):
            await read(content, 0, 10)
        proxy.faults = {}
        await contents.erase("task-1", [{"archived_url": bucket.address.url_of(ITEM)}])
        with pytest.raises(ArchiveUnavailable, match="no longer there"):
            await read(content, 0, 10)
        assert await contents.find({"archived_url": bucket.address.url_of(ITEM)}) is None


async def test_thumbnail_is_made_once_from_parts(bucket: Bucket) -> None:
    """The picture is made of the object in the bucket, and stored beside it with its media type."""
    contents, content = await stored(bucket)
    first, second = await contents.thumbnail(content), await contents.thumbnail(content)
    assert (first.etag, first.size, first.stored) == (second.etag, second.size, True)
    url = await contents.signed_url(first, "GET", timedelta(minutes=5))
    async with httpx.AsyncClient(trust_env=False) as client:
        reply = await client.get(str(url))
    assert reply.headers["content-type"] == "image/jpeg"
    assert reply.content.startswith(b"\xff\xd8\xff")
