"""The counts of an action on many tasks add up, although tasks change while it runs."""

import pytest

from service.domain.task import Fact, Status, TaskId
from tests.storage.builders import NOW, a_task, add_deliveries, add_tasks, an_attempt, claim_deliveries
from tests.unit.dashboard.conftest import PagesUnderTest
from tests.unit.dashboard.test_bulk import FAILED, fields_of, outcomes, report


async def cancel(pages: PagesUnderTest, name: str) -> None:
    """Cancel a task as somebody else does."""
    await pages.application.task_service.cancel(TaskId(name))


@pytest.mark.parametrize("query", [{"q": "cat"}, {}], ids=str)
@pytest.mark.parametrize("batches", ["one batch", "a batch for each"])
async def test_task_that_somebody_else_has_canceled_has_an_outcome(
    pages: PagesUnderTest, monkeypatch: pytest.MonkeyPatch, query: dict[str, str], batches: str
) -> None:
    """It is not possible to cancel it again, whether it was canceled before the first batch or between two."""
    monkeypatch.setattr("service.dashboard.bulk.BATCH_SECONDS", 60.0 if batches == "one batch" else -1.0)
    names = [f"t{number}" for number in range(4)]
    await add_tasks(pages.store, *(a_task(name, params={"prompt": "cat"}, created_at=NOW) for name in names))
    page = (await pages.post("/tasks/bulk", action="cancel", scope="all", **query)).text
    if batches == "one batch":
        await cancel(pages, "t1")
    else:
        page = (await pages.post("/tasks/bulk/run", **fields_of(page))).text
        await cancel(pages, fields_of(page)["pending"][-1])
    while fields := fields_of(page):
        page = (await pages.post("/tasks/bulk/run", **fields)).text
    assert "4 of 4" in page
    assert outcomes(page) == ["3", "1", "0"]
    assert "left alone:" not in page


async def test_task_that_a_filter_has_lost_is_counted_as_left_alone(
    pages: PagesUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that left the filter, was deleted, or was canceled in the middle of a search is in the sum at the end."""
    await add_tasks(pages.store, *(a_task(f"t{number}", params={"prompt": "cat"}) for number in range(3)))
    page = (await pages.post("/tasks/bulk", action="cancel", scope="all", status="queued")).text
    await cancel(pages, "t1")
    page = (await pages.post("/tasks/bulk/run", **fields_of(page))).text
    assert outcomes(page) == ["2", "0", "0"]
    assert "Changed or deleted after the count, and left alone: 1." in page
    page = (await pages.post("/tasks/bulk/run", action="cancel", task=["t1", "deleted"], total="2")).text
    assert outcomes(page) == ["0", "1", "0"]
    assert "left alone: 1." in page
    monkeypatch.setattr("service.dashboard.bulk.BATCH_SECONDS", -1.0)
    monkeypatch.setattr("service.dashboard.task_filter.READ", 2)
    await add_tasks(pages.store, *(a_task(f"s{number}", params={"prompt": "dog"}) for number in range(5)))
    page = (await pages.post("/tasks/bulk", action="cancel", scope="all", q="dog")).text
    page = (await pages.post("/tasks/bulk/run", **fields_of(page))).text
    assert fields_of(page)["pending"] == ["s3"]
    await cancel(pages, "s0")
    while fields := fields_of(page):
        page = (await pages.post("/tasks/bulk/run", **fields)).text
    assert outcomes(page) == ["4", "0", "0"]
    assert "left alone: 1." in page


async def test_task_that_came_to_match_is_named(pages: PagesUnderTest) -> None:
    """A task that got the status of the filter after the count is in the sum at the end too."""
    await add_tasks(pages.store, *(a_task(f"t{number}", status=Status.FAILED, error=FAILED) for number in range(2)))
    await add_tasks(pages.store, a_task("t2"))
    page = (await pages.post("/tasks/bulk", action="resubmit", scope="all", status="failed")).text
    await report(pages, "t2", Fact(status=Status.FAILED, error=FAILED))
    page = (await pages.post("/tasks/bulk/run", **fields_of(page))).text
    assert outcomes(page) == ["3", "0", "0"]
    assert "since their status has changed after the count: 1." in page


@pytest.mark.parametrize("query", [{"q": "cat"}, {}], ids=str)
async def test_task_that_was_canceled_after_the_count_is_submitted_again(
    pages: PagesUnderTest, query: dict[str, str]
) -> None:
    """Its dead letters are replayed too: only an action that cancels may have handled it."""
    await add_tasks(pages.store, *(a_task(name, params={"prompt": "cat"}) for name in ("t1", "t2")))
    confirmed = {
        action: (await pages.post("/tasks/bulk", action=action, scope="all", **query)).text
        for action in ("replay", "resubmit")
    }
    for name in ("t1", "t2"):
        await cancel(pages, name)
        await add_deliveries(pages.store, "log", events=[f"{name}e"], task_id=name)
    claims = await claim_deliveries(pages.store, "log")
    await pages.store.deliveries.finish([an_attempt(each, "dead", fault="destination") for each in claims])
    for page in confirmed.values():
        done = (await pages.post("/tasks/bulk/run", **fields_of(page))).text
        assert "2 of 2" in done
        assert outcomes(done) == ["2", "0", "0"]
