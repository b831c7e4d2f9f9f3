"""Lists (pages, filters, cursors) and the replay of deliveries."""

from datetime import UTC, datetime

import httpx
import pytest
from starlette.requests import Request

from service.api.authentication import Caller
from service.api.query_params import QueryParams
from service.api.task_filters import task_filter
from service.domain.ports.search import TaskWindow
from service.domain.ports.tasks import TaskFilter
from service.domain.search import SearchTerms
from service.domain.task import Status
from tests.unit.api.fakes import KEYS, FakeApplication, a_delivery, a_task, app_of, client_of


async def test_pages_have_no_gap_and_no_overlap(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Following the cursors returns every task once, newest first; the last page has no cursor."""
    fake.add(*(a_task(number) for number in range(5)))
    seen: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await client.get("/v1/tasks?limit=2" + (f"&cursor={cursor}" if cursor else ""))).json()
        seen.append([task["id"] for task in page["data"]])
        cursor = page["next_cursor"]
    assert seen == [["task-4", "task-3"], ["task-2", "task-1"], ["task-0"]]


async def test_full_last_page_has_no_cursor(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """There is a next cursor only when there is a next task."""
    fake.add(a_task(1), a_task(2))
    assert (await client.get("/v1/tasks?limit=2")).json()["next_cursor"] is None


async def test_filters_reach_the_queries(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Statuses and model are filters of the query; an admin has no client filter, unless it names a client."""
    await client.get("/v1/tasks?status=failed,expired&model=m")
    await client.get("/v1/tasks/counts?client=ann&handler=log&q=a+cat&since=2026-05-06T12:00:00%2B02:00")
    first, second = fake.filters
    assert (sorted(first.statuses), first.model, first.client) == (["expired", "failed"], "m", None)
    assert (first.terms, first.exact, first.since) == (SearchTerms(), None, None)
    assert (second.client, second.exact) == ("ann", "a cat")
    assert second.terms == SearchTerms(words=frozenset({"a", "cat"}), handler="log")
    assert second.since == datetime(2026, 5, 6, 10, tzinfo=UTC)


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/tasks/counts"])
async def test_pasted_text_is_searched_for(client: httpx.AsyncClient, fake: FakeApplication, path: str) -> None:
    """A long prompt with line breaks is a search like any other; blanks around an id do not count."""
    for text, searched in (
        (" task-1\n", "task-1"),
        ("a cat\n" * 330, ("a cat " * 330).strip()),
        ("x" * 2000, "x" * 2000),
    ):
        response = await client.get(path, params={"q": text})
        assert (response.status_code, fake.filters[-1].exact) == (200, searched)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("status=failed,done", "status"),
        ("status=failed&status=expired", "status"),
        ("client=bob", "client"),
        ("since=yesterday", "since"),
        ("until=2026-05-06", "until"),
        ("since=2026-05-06T12:00:00Z&until=2026-05-06T12:00:00Z", "until"),
        ("q=", "q"),
        ("q=%20%0A", "q"),
        ("q=a%00b", "q"),
        (f"q={'x' * 2001}", "q"),
        ("handler=", "handler"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/tasks/counts"])
async def test_wrong_filter_is_named(fake: FakeApplication, path: str, query: str, name: str) -> None:
    """Each fault of a filter is named; a client names no other one."""
    async with client_of(app_of(fake, api_keys=KEYS), "key-of-ann") as client:
        response = await client.get(f"{path}?{query}")
    assert (response.status_code, response.json()["errors"][0]["loc"]) == (422, ["query", name])
    assert fake.filters == []


async def test_page_ends_early_where_few_tasks_pass(
    client: httpx.AsyncClient, fake: FakeApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first page is one bounded read, so that it is quick; its cursor leads on, with more reads for a page."""
    fake.add(a_task(1), a_task(2))
    reads: list[str | None] = []

    async def window(wanted: TaskFilter) -> TaskWindow:
        reads.append(wanted.cursor)
        number = len(reads)
        tasks = [a_task(1)] if number == 2 else [a_task(2)] if number == 8 else []
        return TaskWindow(tasks=tasks, after=None if number == 8 else f"task-{number}0")

    monkeypatch.setattr(fake, "window", window)
    first = (await client.get("/v1/tasks?status=failed")).json()
    assert (first["data"], len(reads)) == ([], 1)
    second = (await client.get(f"/v1/tasks?status=failed&cursor={first['next_cursor']}")).json()
    assert ([task["id"] for task in second["data"]], second["next_cursor"]) == (["task-1", "task-2"], None)
    assert reads == [None, *(f"task-{number}0" for number in range(1, 8))]


@pytest.mark.parametrize(
    ("query", "name", "word"),
    [
        ("limit=0", "limit", "1 to 200"),
        ("limit=201", "limit", "1 to 200"),
        ("limit=x", "limit", "1 to 200"),
        ("limit=1&limit=2", "limit", "once"),
        ("limt=1", "limt", "did you mean limit?"),
        ("zzz=1", "zzz", "known are"),
        ("status=complete", "status", "did you mean completed?"),
        ("model=a%00b", "model", "printable"),
        ("model=", "model", "printable"),
        ("cursor=", "cursor", "a next_cursor of this list"),
        ("cursor=%F0%9F%98%80", "cursor", "a next_cursor of this list"),
        ("cursor=dGFzazp0Lg", "cursor", "a next_cursor of this list"),
        ("cursor=ZGVsaXZlcnk6eA", "cursor", "a next_cursor of this list"),
    ],
)
async def test_invalid_query_parameter_is_422(
    client: httpx.AsyncClient, fake: FakeApplication, query: str, name: str, word: str
) -> None:
    """Unknown, repeated and invalid query parameters are 422 with their location, and nothing is read."""
    response = await client.get(f"/v1/tasks?{query}")
    assert response.status_code == 422
    (fault,) = response.json()["errors"]
    assert fault["loc"] == ["query", name]
    assert word in fault["msg"]
    assert not fake.filters


async def test_all_faults_of_a_query_are_reported(client: httpx.AsyncClient) -> None:
    """Three invalid parameters are three errors."""
    response = await client.get("/v1/tasks?limit=0&status=x&what=1")
    assert len(response.json()["errors"]) == 3


async def test_deliveries_are_filtered(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Status and handler filter the list; times are RFC 3339."""
    rows = [a_delivery(1), a_delivery(2, handler="log"), a_delivery(3, status="delivered"), a_delivery(4)]
    fake.deliveries_by_id.update({each.id: each for each in rows})
    page = (await client.get("/v1/deliveries?status=dead&handler=webhook&limit=1")).json()
    assert [each["id"] for each in page["data"]] == ["delivery-4"]
    assert page["data"][0]["created_at"] == "2026-05-06T12:09:42.000Z"
    rest = (await client.get(f"/v1/deliveries?status=dead&handler=webhook&limit=1&cursor={page['next_cursor']}")).json()
    assert ([each["id"] for each in rest["data"]], rest["next_cursor"]) == (["delivery-1"], None)


async def test_a_rare_delivery_is_found_over_several_pages(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A page looks at a bounded number of deliveries: it may end early, and the cursor continues the search."""
    rows = [a_delivery(1, handler="rare"), *(a_delivery(number) for number in range(2, 30))]
    fake.deliveries_by_id.update({each.id: each for each in rows})
    fake.seen_at_once = 5
    first = (await client.get("/v1/deliveries?handler=rare")).json()
    assert first["data"] == []
    rest = (await client.get(f"/v1/deliveries?handler=rare&cursor={first['next_cursor']}")).json()
    assert ([each["id"] for each in rest["data"]], rest["next_cursor"]) == (["delivery-1"], None)


async def test_dead_and_waiting_deliveries_are_replayed_and_a_running_one_is_not(
    client: httpx.AsyncClient, fake: FakeApplication
) -> None:
    """A replay is 202 with the pending delivery, also of a pending one; while an attempt runs it is a conflict."""
    fake.deliveries_by_id["delivery-1"] = a_delivery()
    for _ in range(2):
        response = await client.post("/v1/deliveries/delivery-1/replay")
        assert (response.status_code, response.json()["status"]) == (202, "pending")
    fake.not_replayed["delivery-1"] = "running"
    refused = await client.post("/v1/deliveries/delivery-1/replay")
    assert (refused.status_code, fake.replayed) == (409, ["delivery-1"] * 2)
    assert refused.json()["detail"] == "an attempt of the delivery is running now"
    assert (await client.get("/v1/deliveries/delivery-1")).json()["status"] == "pending"


async def test_waiting_task_has_a_note(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A queued task has the note of what it waits for, alone, in a list and after a wait; others keep theirs."""
    fake.limited = True
    fake.add(a_task(1, status=Status.QUEUED), a_task(2, status=Status.IN_DOUBT, note="once more"))
    assert (await client.get("/v1/tasks/task-1")).json()["note"] == "waits"
    assert (await client.get("/v1/tasks/task-1?wait=1")).json()["note"] == "waits"
    notes = {task["id"]: task["note"] for task in (await client.get("/v1/tasks")).json()["data"]}
    assert notes == {"task-1": "waits", "task-2": "once more"}


@pytest.mark.parametrize(
    ("caller", "query", "client"),
    [
        (Caller(name="eye", read_only=True), b"", None),
        (Caller(name="eye", read_only=True), b"client=ann", "ann"),
        (Caller(name="ann"), b"", "ann"),
    ],
)
def test_filter_is_limited_to_what_the_caller_sees(caller: Caller, query: bytes, client: str | None) -> None:
    """A caller that only reads sees all clients; a client sees itself."""
    request = Request({"type": "http", "query_string": query, "headers": []})
    assert task_filter(QueryParams(request, "client"), caller).client == client
