"""The lists of the API and of the dashboard continue a search while its tasks are submitted."""

from typing import Any
from urllib.parse import quote

import pytest

from service.domain.task import Fact, Status, UpstreamId
from tests.storage.builders import NOW, SECOND, a_task, add_tasks
from tests.unit.dashboard.conftest import PagesUnderTest
from tests.unit.dashboard.test_bulk import report


@pytest.mark.parametrize("path", ["/v1/tasks?q=cat&limit=2", "/tasks?q=cat&format=json"])
async def test_task_at_the_end_of_a_page_is_submitted(
    pages: PagesUnderTest, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Older tasks that still wait are on the next page, as they would be if it waited too."""
    monkeypatch.setattr("service.dashboard.task_list.ROWS", 2)
    new = [a_task(f"t{number}", params={"prompt": "cat"}, created_at=NOW + number * SECOND) for number in range(5)]
    await add_tasks(pages.store, *new)
    first: dict[str, Any] = (await pages.get(path)).json()
    assert [task["id"] for task in first["data"]] == ["t4", "t3"]
    await report(pages, "t3", Fact(status=Status.IN_PROGRESS, upstream_id=UpstreamId("up3")))
    second = (await pages.get(f"{path}&cursor={quote(first['next_cursor'])}")).json()
    assert [task["id"] for task in second["data"]] == ["t2", "t1"]
    third = (await pages.get(f"{path}&cursor={quote(second['next_cursor'])}")).json()
    assert third["data"][0]["id"] == "t0"
