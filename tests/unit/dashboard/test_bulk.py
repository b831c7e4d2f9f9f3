"""Actions on many tasks: what was counted and confirmed is what is acted on."""

import re
from datetime import timedelta
from typing import Any

import pytest

from service.api.query_params import row_id_of
from service.domain.ports.search import TaskWindow
from service.domain.ports.tasks import TaskFilter
from service.domain.task import Fact, Source, Status, Task, TaskError, TaskId, UpstreamId
from service.domain.task_update import TaskUpdate
from service.tasks.task_service import TaskService
from tests.storage.builders import NOW, SECOND, a_task, add_tasks, in_progress
from tests.unit.dashboard.conftest import PagesUnderTest

FIELD = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')
FAILED = TaskError(code="x", message="it failed")


def fields_of(page: str) -> dict[str, Any]:
    """Return the hidden fields of the form on a page of an action on all, none at its end."""
    found = [(name, value) for name, value in FIELD.findall(page) if name != "form_token"]
    pending = [value for name, value in found if name == "pending"]
    return dict(found) | ({"pending": pending} if pending else {})


def outcomes(page: str) -> list[str]:
    """Return how many were done, not possible, and failed."""
    return re.findall(r"<dd>(?:<strong>)?(\d+)", page)


async def report(pages: PagesUnderTest, name: str, fact: Fact) -> None:
    """Record what the provider says about a task."""
    await pages.application.recorder.add(TaskUpdate(task_id=TaskId(name), fact=fact, source=Source.SUBMIT))


@pytest.fixture
def canceled_at_provider(pages: PagesUnderTest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of the tasks that the provider has to cancel, which it does."""
    calls: list[str] = []

    async def cancel(upstream_id: str) -> None:
        calls.append(upstream_id)

    monkeypatch.setattr(pages.application.task_service.provider, "cancel", cancel)
    return calls


async def status_of(pages: PagesUnderTest, name: str) -> Status | None:
    """Return the status of a task."""
    task = await pages.store.queries.task(TaskId(name))
    return task.status if task else None


async def test_tasks_after_the_count_are_left_alone(pages: PagesUnderTest) -> None:
    """An action on all that match is for the tasks that were counted: a later one stays, whatever the filter says."""
    now = pages.application.clock.now()
    for query in ({}, {"q": "cat"}, {"until": (now + timedelta(days=1)).isoformat()}):
        label = "".join(query)
        old = [a_task(f"old{label}{number}", params={"prompt": "a cat"}, created_at=now) for number in range(2)]
        await add_tasks(pages.store, *old)
        page = await pages.post("/tasks/bulk", action="cancel", scope="all", status="queued", **query)
        assert "Cancel: 2 tasks?" in page.text
        assert "Tasks created after this count are left alone" in page.text
        later = pages.application.clock.now() + timedelta(minutes=1)
        await add_tasks(pages.store, a_task(f"new{label}", params={"prompt": "a cat"}, created_at=later))
        done = await pages.post("/tasks/bulk/run", **fields_of(page.text))
        assert "2 of 2" in done.text
        assert [await status_of(pages, task.id) for task in old] == [Status.CANCELED] * 2
        assert await status_of(pages, f"new{label}") is Status.QUEUED
        assert (await pages.application.task_service.cancel(TaskId(f"new{label}"))).status is Status.CANCELED


async def test_time_of_the_count_is_kept_between_batches(
    pages: PagesUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form of an action that goes on has the time of its count, its own filter, and what was done."""
    monkeypatch.setattr("service.dashboard.bulk.BATCH_SECONDS", -1.0)
    now = pages.application.clock.now()
    await add_tasks(pages.store, *(a_task(f"t{number}", created_at=now) for number in range(3)))
    fields = fields_of((await pages.post("/tasks/bulk", action="cancel", scope="all")).text)
    counted_at = fields["counted_at"]
    assert "until" not in fields
    for number in (1, 2):
        fields = fields_of((await pages.post("/tasks/bulk/run", **fields)).text)
        assert (fields["counted_at"], fields["done"], fields["total"]) == (counted_at, str(number), "3")
    assert "3 of 3" in (await pages.post("/tasks/bulk/run", **fields)).text
    wrong = await pages.post("/tasks/bulk/run", **(fields | {"counted_at": "yesterday"}))
    assert (wrong.status_code, "must be a time" in wrong.text) == (422, True)


@pytest.mark.parametrize("seconds", [60.0, -1.0], ids=["one batch", "a batch for each"])
@pytest.mark.parametrize("query", [{"q": "cat"}, {"status": "queued"}, {}], ids=str)
async def test_all_that_match_are_acted_on_once(
    pages: PagesUnderTest, monkeypatch: pytest.MonkeyPatch, query: dict[str, str], seconds: float
) -> None:
    """A canceled task has another place in a search than a queued one: the pages after it are complete all the same."""
    monkeypatch.setattr("service.dashboard.task_filter.READ", 2)
    monkeypatch.setattr("service.dashboard.bulk.BATCH_SECONDS", seconds)
    names = [f"t{number}" for number in range(7)]
    await add_tasks(pages.store, *(a_task(name, params={"prompt": "cat"}, created_at=NOW) for name in names))
    page = (await pages.post("/tasks/bulk", action="cancel", scope="all", **query)).text
    assert "Cancel: 7 tasks?" in page
    batches = 0
    while fields := fields_of(page):
        page = (await pages.post("/tasks/bulk/run", **fields)).text
        batches += 1
        await pages.store.search_index.advance()
    assert "7 of 7" in page
    assert outcomes(page) == ["7", "0", "0"]
    assert {await status_of(pages, name) for name in names} == {Status.CANCELED}
    assert (batches > 1) is (seconds < 0)


@pytest.mark.parametrize("query", [{"status": "queued"}, {"status": "queued,submitting"}], ids=str)
async def test_task_that_was_submitted_meanwhile_is_not_canceled(
    pages: PagesUnderTest, monkeypatch: pytest.MonkeyPatch, canceled_at_provider: list[str], query: dict[str, str]
) -> None:
    """Of queued tasks that cost nothing none is canceled once the provider has it, whenever it was submitted."""
    monkeypatch.setattr("service.dashboard.bulk.BATCH_SECONDS", -1.0)
    await add_tasks(pages.store, *(a_task(f"t{number}", created_at=NOW + number * SECOND) for number in range(3)))
    page = (await pages.post("/tasks/bulk", action="cancel", scope="all", **query)).text
    page = (await pages.post("/tasks/bulk/run", **fields_of(page))).text
    assert fields_of(page)["pending"] == ["t1", "t0"]
    await report(pages, "t1", Fact(status=Status.IN_PROGRESS, upstream_id=UpstreamId("up1")))  # between two batches
    page = (await pages.post("/tasks/bulk/run", **fields_of(page))).text
    cancel = TaskService.cancel

    async def cancel_too_late(service: TaskService, task_id: TaskId, **given: bool) -> Task:
        await report(pages, task_id, Fact(status=Status.IN_PROGRESS, upstream_id=UpstreamId("up0")))
        return await cancel(service, task_id, **given)

    monkeypatch.setattr(TaskService, "cancel", cancel_too_late)  # after the task was read
    page = (await pages.post("/tasks/bulk/run", **fields_of(page))).text
    assert outcomes(page) == ["1", "2", "0"]
    assert canceled_at_provider == []
    assert [await status_of(pages, name) for name in ("t1", "t0")] == [Status.IN_PROGRESS] * 2


@pytest.mark.parametrize("query", [{"status": "queued,in_progress"}, {}], ids=str)
async def test_running_task_that_was_confirmed_is_canceled(
    pages: PagesUnderTest, canceled_at_provider: list[str], query: dict[str, str]
) -> None:
    """A filter that running tasks pass is for them too: the provider is calls to cancel those."""
    await add_tasks(pages.store, in_progress("t1"), a_task("t2"))
    page = (await pages.post("/tasks/bulk", action="cancel", scope="all", **query)).text
    assert outcomes((await pages.post("/tasks/bulk/run", **fields_of(page))).text) == ["2", "0", "0"]
    assert canceled_at_provider == ["u1"]


async def test_task_with_another_status_is_not_submitted_again(
    pages: PagesUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that ended otherwise after it was read is left alone: the provider would charge for it."""
    monkeypatch.setattr("service.dashboard.bulk.BATCH_SECONDS", -1.0)
    await add_tasks(pages.store, *(a_task(f"t{number}", status=Status.EXPIRED, guessed=True) for number in range(2)))
    page = (await pages.post("/tasks/bulk", action="resubmit", scope="all", status="expired")).text
    page = (await pages.post("/tasks/bulk/run", **fields_of(page))).text
    [left] = fields_of(page)["pending"]
    await report(pages, left, Fact(status=Status.FAILED, error=FAILED))
    assert outcomes((await pages.post("/tasks/bulk/run", **fields_of(page))).text) == ["1", "1", "0"]


async def test_batch_ends_between_pages_without_a_task(pages: PagesUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that no task passes takes several batches, each of which goes on where the one before has ended."""
    cursors: list[int] = []

    async def window(wanted: TaskFilter) -> TaskWindow:
        cursors.append(int(wanted.cursor[1:]) if wanted.cursor else 0)
        return TaskWindow(tasks=[], after=f"t{cursors[-1] + 1}" if cursors[-1] < 400 else None)

    monkeypatch.setattr(pages.application.store.queries, "window", window)
    monkeypatch.setattr("service.dashboard.bulk_tasks.monotonic", lambda: len(cursors) * 0.1)
    page = (await pages.post("/tasks/bulk/run", action="cancel", scope="all", total="9")).text
    assert "Cancel: in progress" in page
    assert 30 < cursors[-1] < 50
    batches = 1
    while fields := fields_of(page):
        assert row_id_of("task", fields["cursor"]) == f"t{cursors[-1] + 1}"
        page = (await pages.post("/tasks/bulk/run", **fields)).text
        batches += 1
    assert cursors == [*range(401)]
    assert batches == 10
    assert "Cancel: done" in page


async def test_task_of_another_client_is_passed_over(pages: PagesUnderTest) -> None:
    """Whatever a form names, a client acts on its own tasks alone; boxes beside the choice of all do not count."""
    await add_tasks(pages.store, a_task("mine", client="ann"), a_task("other", client="bob"))
    for fields in ({"task": "other"}, {"scope": "all", "pending": "other"}):
        done = await pages.post("/tasks/bulk/run", "ann", action="cancel", total="1", **fields)
        assert outcomes(done.text) == ["0", "0", "0"]
    done = await pages.post("/tasks/bulk/run", "ann", action="cancel", scope="all", task="other", total="1")
    assert "1 of 1" in done.text
    assert (await status_of(pages, "mine"), await status_of(pages, "other")) == (Status.CANCELED, Status.QUEUED)


@pytest.mark.parametrize("path", ["/tasks/bulk", "/tasks/bulk/run"])
async def test_nothing_selected_is_nothing_done(pages: PagesUnderTest, path: str) -> None:
    """A form with neither a task nor the word for all leads back to the list, and no task changes."""
    await add_tasks(pages.store, a_task("t1"))
    response = await pages.post(path, action="cancel", status="queued")
    assert (response.status_code, response.headers["location"]) == (303, "/tasks?status=queued")
    assert await status_of(pages, "t1") is Status.QUEUED


async def test_repeated_resubmission_is_not_possible(pages: PagesUnderTest) -> None:
    """A task is submitted again once: the second time makes no task, and says so."""
    await add_tasks(pages.store, *(a_task(name, status=Status.FAILED, error=FAILED) for name in ("t1", "t2")))
    for expected in (["2", "0", "0"], ["0", "2", "0"]):
        done = await pages.post("/tasks/bulk/run", action="resubmit", task=["t1", "t2"], total="2")
        assert outcomes(done.text) == expected
    again = (await pages.get("/tasks?status=queued&format=json")).json()["data"]
    assert sorted(task["resubmission_of"] for task in again) == ["t1", "t2"]
