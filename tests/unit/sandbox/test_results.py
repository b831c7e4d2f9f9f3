"""The sandbox's result addresses: signed, expiring, not available yet, cut downloads."""

import asyncio
import io
from typing import Any

import av
import httpx
import pytest

from service.sandbox import First
from tests.unit.sandbox.test_bench import MOVED, Bench, bench


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


async def address(at: Bench, task_id: str) -> str:
    """Return a new address of a task's video."""
    url: str = (await at.poll(task_id)).json()["output"][0]["content"][0]["url"]
    return url


async def completed(at: Bench, **params: Any) -> str:
    """Create a task, wait for its end, and return its id."""
    task_id = await at.created(**params)
    await asyncio.sleep(5)
    return task_id


async def test_tiny_video_is_a_real_mp4() -> None:
    """Every task's result is playable and has the media type of a video."""
    async with bench() as at:
        reply = await at.client.get(await address(at, await completed(at)))
    assert reply.headers["Content-Type"] == "video/mp4"
    with av.open(io.BytesIO(reply.content), "r") as container:
        assert len(list(container.decode(video=0))) == 12


async def test_address_expires_and_a_poll_returns_a_new_one() -> None:
    """After its lifetime an address is 403 with XML; the address of the next poll works."""
    async with bench(url_life=60) as at:
        task_id = await completed(at)
        url = await address(at, task_id)
        assert (await at.client.get(url)).status_code == 200
        await asyncio.sleep(61)
        expired = await at.client.get(url)
        assert (expired.status_code, expired.headers["Content-Type"]) == (403, "application/xml")
        assert "Request has expired" in expired.text
        assert (await at.client.get(await address(at, task_id))).status_code == 200


async def test_address_can_be_expired_when_it_is_returned() -> None:
    """The first address has expired at once, the second works."""
    async with bench(url_expired=First(1)) as at:
        task_id = await completed(at)
        statuses = [(await at.client.get(await address(at, task_id))).status_code for _ in range(2)]
    assert statuses == [403, 200]


@pytest.mark.parametrize(("old", "new"), [("expires=1", "expires=2"), ("sig=", "sig=a"), (".mp4", ".jpg")])
async def test_forged_address_is_refused(old: str, new: str) -> None:
    """A changed expiry, signature or name is refused."""
    async with bench() as at:
        url = await address(at, await completed(at))
        assert old in url
        forged = await at.client.get(url.replace(old, new))
        bare = await at.client.get(url.partition("?")[0])
    assert (forged.status_code, bare.status_code) == (403, 403)


async def test_file_can_be_missing_after_completion() -> None:
    """The status is completed before the file is available."""
    async with bench(run_time=1, not_there_for=30) as at:
        task_id = await completed(at)
        url = await address(at, task_id)
        early = await at.client.get(url)
        assert (early.status_code, "NoSuchKey" in early.text) == (404, True)
        await asyncio.sleep(30)
        assert (await at.client.get(url)).status_code == 200


async def test_download_can_be_cut() -> None:
    """The connection is cut in the middle of the video, and the next download is complete."""
    async with bench(cut_downloads=First(1)) as at:
        url = await address(at, await completed(at))
        with pytest.raises(httpx.ReadError):
            await at.client.get(url)
        assert (await at.client.get(url)).status_code == 200


async def test_addresses_can_have_another_base() -> None:
    """The switch `public_url` replaces the base of the request."""
    async with bench(public_url="https://files.test/") as at:
        assert (await address(at, await completed(at))).startswith("https://files.test/files/")


async def test_watermarked_video_has_its_own_address() -> None:
    """`watermarked_url` exists only if the task has a watermark."""
    async with bench() as at:
        for watermark in (True, False):
            content = (await at.poll(await completed(at, watermark=watermark))).json()["output"][0]["content"][0]
            assert ("watermarked_url" in content) is watermark
