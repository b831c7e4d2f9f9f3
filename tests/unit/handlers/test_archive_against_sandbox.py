"""The archive against the sandbox, whose switches show every manner of file servers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from handlers.archive import DELAYS, archive
from service import Event, Reject, Retry, Tools
from tests.support.delivery_builders import Results, event, tools, view
from tests.unit.sandbox.test_bench import Bench, bench

MANNERS: dict[str, dict[str, Any]] = {
    "none": {},
    "odd encoding": {"odd_file_encoding": 1},
    "gzip": {"gzip_downloads": 1},
    "trailing bytes": {"trailing_bytes": 1},
    "trailing bytes in gzip": {"trailing_bytes": 1, "gzip_downloads": 1},
    "odd content type": {"odd_content_type": 1},
    "redirects": {"redirects": 10},
    "one bad of several": {"bad_results": "first 1"},
    "cut downloads": {"cut_downloads": "first 2"},
    "by chance": {
        "odd_file_encoding": 0.3,
        "gzip_downloads": 0.3,
        "trailing_bytes": 0.3,
        "odd_content_type": 0.3,
        "bad_results": 0.3,
        "cut_downloads": 0.2,
        "redirects": 3,
    },
}


async def completed(at: Bench) -> Event:
    """Return the event of a completed task with the output that the provider reports."""
    [output] = (await at.poll(await at.created())).json()["output"]
    return event(task=view(output=output["content"]))


def names(folder: Path) -> list[str]:
    """Return the names of the files in a directory."""
    return sorted(path.name for path in folder.iterdir())


async def stored_after(happened: Event, make: Callable[[int], Tools]) -> int:
    """Run the archive until it succeeds; return the number of attempts."""
    for attempt in range(1, len(DELAYS) + 2):
        try:
            await archive(happened, make(attempt))
        except (Retry, Reject, httpx.ReadError) as error:
            named = "output " in str(error)
        else:
            return attempt
        assert named
    pytest.fail("the archive never succeeded")


@pytest.mark.parametrize("manner", MANNERS)
async def test_every_result_is_stored(manner: str, tmp_path: Path) -> None:
    """All three results are stored in the end, each is recorded once it is stored, and none is downloaded twice."""
    results = Results()
    async with bench(outputs=3, tiny_videos=True, completed_at_once=1, **MANNERS[manner]) as at:

        def make(attempt: int) -> Tools:
            settings = {"ARCHIVE_URL": tmp_path.as_uri()}
            return tools(at.client, settings=settings, results=results, attempt=attempt)

        attempts = await stored_after(await completed(at), make)
        downloads = (await at.client.get("/sandbox/ledger")).json()["requests"]["download"]
    assert names(tmp_path) == ["task-1-2.mp4", "task-1-3.mp4", "task-1.mp4"]
    assert len({artifact.url for artifact in results.artifacts}) == 3
    if manner == "one bad of several":
        assert (attempts, downloads) == (2, 4)
    if manner == "redirects":
        assert (attempts, downloads) == (1, 33)
