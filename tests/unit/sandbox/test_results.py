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


async def fetched(at: Bench, url: str) -> httpx.Response:
    """Return the response to a download that asks for the file as it is."""
    return await at.client.get(url, headers={"Accept-Encoding": "identity"})


async def test_task_has_several_results() -> None:
    """Each of them has its own address and is a playable file."""
    async with bench(outputs=3) as at:
        [output] = (await at.poll(await completed(at))).json()["output"]
        urls = [item["url"] for item in output["content"]]
        assert len({url.partition("?")[0] for url in urls}) == 3
        assert [(await fetched(at, url)).content[4:8] for url in urls] == [b"ftyp"] * 3
        assert (await at.client.get(urls[1].replace(".2.", ".3."))).status_code == 403


async def test_result_can_be_a_page_instead() -> None:
    """The page has the status 200; the file is there at the next download."""
    async with bench(bad_results=First(1)) as at:
        url = await address(at, await completed(at))
        page, file = await fetched(at, url), await fetched(at, url)
    assert (page.status_code, page.headers["Content-Type"], page.content[:6]) == (
        200,
        "text/html; charset=utf-8",
        b"<html>",
    )
    assert file.content[4:8] == b"ftyp"


async def test_encodings_that_are_none() -> None:
    """The bytes are those of the file, whatever Content-Encoding says."""
    seen = set()
    async with bench(odd_file_encoding=1, tiny_videos=True) as at:
        url = await address(at, await completed(at))
        for _ in range(20):
            async with at.client.stream("GET", url) as response:
                seen.add(response.headers["Content-Encoding"])
                assert (b"".join([part async for part in response.aiter_raw()]))[4:8] == b"ftyp"
    assert seen == {"UTF-8", "aws-chunked", "br", ""}


async def test_compressed_download() -> None:
    """The file is compressed although the request excludes it."""
    async with bench(gzip_downloads=1, trailing_bytes=1) as at:
        response = await fetched(at, await address(at, await completed(at)))
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.content[4:8] == b"ftyp"
    assert response.content.endswith(b"<!-- end -->")


async def test_content_types_that_are_wrong() -> None:
    """A wrong one, an empty one, or none."""
    async with bench(odd_content_type=1) as at:
        url = await address(at, await completed(at))
        seen = {(await fetched(at, url)).headers.get("Content-Type") for _ in range(20)}
    assert seen == {"text/html", "application/octet-stream", "", None}


@pytest.mark.parametrize("count", [1, 10])
async def test_redirects_lead_to_the_file(count: int) -> None:
    """So many redirects, then the file."""
    async with bench(redirects=count) as at:
        url = await address(at, await completed(at))
        for _ in range(count):
            response = await fetched(at, url)
            assert response.status_code == 302
            url = str(httpx.URL(url).join(response.headers["Location"]))
        assert (await fetched(at, url)).content[4:8] == b"ftyp"
