"""Pages that are bounded in bytes: of tasks, of deliveries, and of the history of a task."""

import asyncio
import json

import anyio
import httpx
import pytest

from service.api import pages
from service.api.pages import FIRST_ROWS, MAX_PAGE_BYTES, PageTurns
from service.domain.task import Json
from tests.unit.api.fakes import FakeApplication, a_delivery, a_task

KB = 1024


async def _all_pages(client: httpx.AsyncClient, path: str) -> tuple[list[Json], list[int]]:
    """Follow the cursors from `path`; return the rows, and the size of each page."""
    rows: list[Json] = []
    sizes: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        mark = "&" if "?" in path else "?"
        response = await client.get(path + (f"{mark}cursor={cursor}" if cursor else ""))
        assert response.status_code == 200, response.text
        rows += response.json()["data"]
        sizes.append(len(response.content))
        cursor = response.json()["next_cursor"]
    return rows, sizes


async def test_lists_leave_metadata_out_by_default(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A list has no metadata and does not read it; `include=metadata` adds it; a single task always has it."""
    fake.add(a_task(metadata={"chat": 42}))
    assert "metadata" not in (await client.get("/v1/tasks")).json()["data"][0]
    assert (await client.get("/v1/tasks?include=metadata")).json()["data"][0]["metadata"] == {"chat": 42}
    assert (await client.get("/v1/tasks/task-1")).json()["metadata"] == {"chat": 42}
    assert [each.without for each in fake.filters] == [
        {"notify", "hinted_fact", "metadata"},
        {"notify", "hinted_fact"},
    ]


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/tasks/task-1/events"])
async def test_unknown_include_is_422(client: httpx.AsyncClient, fake: FakeApplication, path: str) -> None:
    """The fault names what may be included."""
    fake.add(a_task())
    response = await client.get(f"{path}?include=params")
    assert (response.status_code, response.json()["errors"][0]["loc"]) == (422, ["query", "include"])
    assert "metadata" in response.json()["errors"][0]["msg"]


async def test_page_ends_early_when_it_is_large(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Two hundred tasks with 64 KiB each are pages of at most 1 MiB, together without gap or repeat."""
    fake.add(*(a_task(number, metadata={"a": "x" * 63 * KB}) for number in range(200)))
    rows, sizes = await _all_pages(client, "/v1/tasks?limit=200&include=metadata")
    assert [row["id"] for row in rows] == [f"task-{number}" for number in reversed(range(200))]
    assert max(sizes) < MAX_PAGE_BYTES + 64 * KB
    assert len(sizes) == pytest.approx(200 * 63 * KB / MAX_PAGE_BYTES, abs=2)
    assert max(each.limit for each in fake.filters) <= FIRST_ROWS


async def test_row_larger_than_a_page_is_a_page(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A row over the limit is shown alone, so that the list always ends."""
    fake.add(*(a_task(number, params={"prompt": "x" * 2 * MAX_PAGE_BYTES}) for number in range(3)))
    rows, sizes = await _all_pages(client, "/v1/tasks")
    assert (len(rows), len(sizes)) == (3, 3)


async def test_large_list_does_not_hold_up_the_loop(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Between a few rows other requests run."""
    fake.add(*(a_task(number) for number in range(200)))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert len((await client.get("/v1/tasks?limit=200")).json()["data"]) == 200
    counting.cancel()
    assert turns
    assert len(fake.filters) == 2


async def test_deliveries_end_early_too(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A page of deliveries with long errors is bounded in the same way."""
    fake.deliveries_by_id.update({f"d{n}": a_delivery(n, id=f"d{n}", last_error="x" * 20 * KB) for n in range(100)})
    rows, sizes = await _all_pages(client, "/v1/deliveries?limit=200")
    assert [row["id"] for row in rows] == [f"d{number}" for number in reversed(range(100))]
    assert max(sizes) < MAX_PAGE_BYTES + 21 * KB


def _event(number: int) -> Json:
    at = f"2026-05-06T12:09:{number // 10:02}.000Z"
    return {"at": at, "kind": "event", "id": f"e{number}", "type": "task.progressed"}


def _history(fake: FakeApplication, count: int, size: int) -> None:
    fake.add(a_task())
    fake.entries = [_event(number) for number in range(count)]
    data = {"id": "task-1", "note": "x" * size, "metadata": {"chat": 42}}
    fake.data_by_event = {f"e{number}": data for number in range(count)}


async def test_history_is_bounded_in_bytes(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A history of 200 events of 64 KiB comes in pages of 1 MiB without gap or repeat, also within one moment."""
    _history(fake, 200, 64 * KB)
    rows, sizes = await _all_pages(client, "/v1/tasks/task-1/events")
    assert [row["id"] for row in rows] == [f"e{number}" for number in range(200)]
    assert max(sizes) < MAX_PAGE_BYTES + 65 * KB
    assert all("metadata" not in row["data"] for row in rows)


async def test_history_shows_metadata_on_request(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """With `include=metadata` the task in an event is whole."""
    _history(fake, 2, 1)
    rows, _ = await _all_pages(client, "/v1/tasks/task-1/events?include=metadata")
    assert [row["data"]["metadata"] for row in rows] == [{"chat": 42}] * 2


async def test_cursor_of_a_history_survives_deleted_entries(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Entries that were deleted by their age, or added since, move no later page."""
    _history(fake, 40, 64 * KB)
    page = (await client.get("/v1/tasks/task-1/events")).json()
    shown = len(page["data"])
    assert 0 < shown < 40
    del fake.entries[: 10 * (shown // 10)]
    fake.entries.append({"at": "2026-05-06T12:10:00.000Z", "kind": "poll", "outcome": "in_progress"})
    rest = (await client.get(f"/v1/tasks/task-1/events?cursor={page['next_cursor']}")).json()
    assert rest["data"][0]["id"] == f"e{shown}"


@pytest.mark.parametrize("cursor", ["x", "aGlzdG9yeTp4", "dGFzazp0MQ"])
async def test_cursor_of_another_list_is_refused(client: httpx.AsyncClient, fake: FakeApplication, cursor: str) -> None:
    """Only a cursor of a history is one."""
    _history(fake, 1, 1)
    response = await client.get(f"/v1/tasks/task-1/events?cursor={cursor}")
    assert response.status_code == 422
    assert json.loads(response.content)["errors"][0]["loc"] == ["query", "cursor"]


async def test_large_pages_of_one_client_are_made_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large page takes steps with pauses, one page of a client after the other; small pages wait for nothing."""
    monkeypatch.setattr(pages, "STEP_PAUSE", 0.0)
    turns, large, steps = PageTurns(), pages.STEP_BYTES, list[str]()

    async def make(client: str, label: str, size: int) -> None:
        async with turns.turn(client) as pause:
            for _ in range(3):
                await pause(size)
                steps.append(label)

    async with anyio.create_task_group() as group:
        for client, label, size in (("a", "a1", large), ("a", "a2", large), ("b", "b1", large), ("a", "small", 1)):
            group.start_soon(make, client, label, size)
    assert [each for each in steps if each.startswith("a")] == ["a1"] * 3 + ["a2"] * 3
    assert max(index for index, each in enumerate(steps) if each in {"b1", "small"}) < len(steps) - 1
    assert not turns._locks
