"""What pages say, made in this process from rows in the database."""

import re
from datetime import timedelta
from html import unescape
from urllib.parse import urlencode

import pytest

from service.dashboard import bulk, task_page
from service.domain.ports.deliveries import DeliverySelection
from service.domain.ports.queues import ReceiverAnswer
from service.domain.task import Status, TaskError, UpstreamId
from tests.storage.builders import NOW, SECOND, a_task, add_deliveries, add_tasks, an_attempt, claim_deliveries
from tests.unit.dashboard.conftest import PagesUnderTest

FAILED = {"status": Status.FAILED, "error": TaskError(code="x", message="it failed")}


async def test_rejected_key_is_on_the_front_page_of_operators(pages: PagesUnderTest) -> None:
    """An admin and a reader see it first and what to do; a client cannot change it and does not."""
    await pages.store.key_rejections.rejected(pages.application.clock.now() - timedelta(minutes=3))
    for who, seen in (("admin", True), ("view", True), ("ann", False)):
        text = (await pages.get("/", who)).text
        assert ("The provider rejects the key" in text) is seen
        assert ("BOOMERANG_UPSTREAM_KEY" in text) is seen
    items = (await pages.get("/?format=json")).json()["attention"]
    assert (items[0]["title"], items[0]["tone"], items[0]["figure"][:5]) == (
        "The provider rejects the key",
        "bad",
        "3 min",
    )
    await pages.store.key_rejections.accepted()
    assert "rejects the key" not in (await pages.get("/")).text


@pytest.mark.parametrize(("status", "count"), [("failed", 2), ("canceled", 1), ("", 4), ("failed,canceled", 3)])
async def test_action_on_all_that_match_counts_those_alone(pages: PagesUnderTest, status: str, count: int) -> None:
    """The count before an action on all is that of the chosen statuses, and all of them are handled."""
    tasks = [
        a_task("t1", **FAILED),
        a_task("t2", created_at=NOW + SECOND, **FAILED),
        a_task("t3", created_at=NOW + 2 * SECOND, status=Status.CANCELED),
        a_task("t4", created_at=NOW + 3 * SECOND, status=Status.COMPLETED),
    ]
    await add_tasks(pages.store, *tasks)
    first = await pages.post("/tasks/bulk", action="replay", scope="all", status=status)
    assert f"Replay dead letters: {count} task{'' if count == 1 else 's'}?" in unescape(first.text)
    done = await pages.post("/tasks/bulk/run", action="replay", scope="all", status=status, total=str(count))
    assert f"{count} of {count}" in done.text


@pytest.mark.parametrize(("who", "outcome"), [("admin", "Replayed</dt><dd><strong>1<"), ("ann", "possible</dt><dd>1<")])
async def test_dead_letters_of_chosen_tasks_are_replayed(
    pages: PagesUnderTest, who: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a task, however many are read at once, and none of another one; a client's own requests alone."""
    monkeypatch.setattr(bulk, "REPLAYED_AT_ONCE", 1)
    await add_tasks(pages.store, *(a_task(name, client="ann", status=Status.COMPLETED) for name in ("t1", "t2")))
    for name in ("t1", "t2"):
        await add_deliveries(pages.store, "log", "webhook", events=[f"{name}e"], task_id=name)
        for handler in ("log", "webhook"):
            [claim] = await claim_deliveries(pages.store, handler)
            await pages.store.deliveries.finish([an_attempt(claim, "dead", fault="destination")])
    page = await pages.post("/tasks/bulk/run", who, action="replay", task="t1", total="1")
    assert outcome in page.text
    pending = {one.id for one in (await pages.store.queries.deliveries(DeliverySelection(status="pending"))).deliveries}
    assert pending == ({"t1e-log", "t1e-webhook"} if who == "admin" else set())


async def test_list_is_filtered_by_time_and_handler(pages: PagesUnderTest) -> None:
    """A field sends a time without an offset, which is UTC; the fields show it again, and the address has it."""
    tasks = [a_task(f"t{hour}", created_at=NOW + timedelta(hours=hour)) for hour in range(4)]
    await add_tasks(pages.store, *tasks)
    page = (await pages.get("/tasks?q=&since=2026-05-06T13:00&until=2026-05-06T15:00&handler=")).text
    assert [name for name in ("t0", "t1", "t2", "t3") if f'data-row="{name}"' in page] == ["t1", "t2"]
    assert 'name="since" value="2026-05-06T13:00"' in page
    assert "since=2026-05-06T13%3A00%3A00" in page
    assert '<details class="more" open>' in page
    assert '<details class="more">' in (await pages.get("/tasks")).text
    wrong = await pages.get("/tasks?since=yesterday")
    assert (wrong.status_code, "must be a time" in wrong.text) == (422, True)
    assert 'data-row="' not in (await pages.get("/tasks?handler=webhook")).text


async def test_pasted_texts_are_found(pages: PagesUnderTest) -> None:
    """A prompt that the field has cut off finds its task, and so does an id with blanks; a blank alone is no search."""
    prompt = " ".join(f"word{'x' * 30}{number}" for number in range(90))
    await add_tasks(pages.store, a_task("t1", params={"prompt": prompt}), a_task("t2", upstream_id=UpstreamId("up-2")))
    page = (await pages.get("/tasks")).text
    [length] = re.findall(r'name="q"[^>]+maxlength="(\d+)"', page)
    assert len(prompt) > int(length)
    searches = {prompt[: int(length)]: ["t1"], " t1 ": ["t1"], "up-2\t": ["t2"], " ": ["t1", "t2"], "-": []}
    for text, ids in searches.items():
        query = urlencode({"q": text})
        found = (await pages.get(f"/tasks?{query}&format=json")).json()
        assert sorted(task["id"] for task in found["data"]) == ids, text
        assert sum(found["counts"].values()) == len(ids)
        confirm = await pages.post("/tasks/bulk", action="cancel", scope="all", q=text)
        assert f"Cancel: {len(ids)} task{'' if len(ids) == 1 else 's'}?" in confirm.text


async def test_page_of_an_action_names_no_address_of_its_json(pages: PagesUnderTest) -> None:
    """Asked for by GET, the address of an action is another page; by POST it is JSON where that is accepted."""
    confirm = await pages.post("/tasks/bulk", scope="all", action="replay")
    assert confirm.status_code == 200
    assert "This page as JSON" not in confirm.text
    assert "This page as JSON" in (await pages.get("/tasks")).text


async def test_task_with_many_deliveries_shows_the_newest(
    pages: PagesUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their attempts, which may be newer than all of them; an older one is shown where its address names it."""
    monkeypatch.setattr(task_page, "MAX_STEPS", 3)
    handlers = [f"h{number}" for number in range(6)]
    await add_tasks(pages.store, a_task("t1", status=Status.COMPLETED, settled_at=NOW))
    await add_deliveries(pages.store, *handlers)
    for name in handlers:
        [claim] = await claim_deliveries(pages.store, name)
        await pages.store.deliveries.finish([an_attempt(claim, "delivered")])
    page = (await pages.get("/tasks/t1")).text
    assert (page.count('class="attempts"'), "Only the newest 3 steps are shown" in page) == (3, True)
    assert page.count("What the handler is given") == 3
    assert 'id="e1-h0"' not in page
    assert 'id="e1-h0"' in (await pages.get("/tasks/t1?delivery=e1-h0")).text


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"status": Status.QUEUED}, "Last tried in vain"),
        ({"status": Status.CANCELED}, "Last tried in vain"),
        ({"status": Status.IN_PROGRESS, "upstream_id": "u1"}, "Submitted"),
        ({"status": Status.CANCELED, "upstream_id": "u1"}, "Submitted"),
        ({"status": Status.QUEUED, "submitted_at": None}, None),
    ],
)
async def test_task_is_submitted_only_if_it_was_sent(
    pages: PagesUnderTest, fields: dict[str, object], shown: str | None
) -> None:
    """The time of a submission in vain is no submission, also of a task that was canceled afterwards."""
    await add_tasks(pages.store, a_task("t1", **{"submitted_at": NOW, **fields}))
    text = (await pages.get("/tasks/t1")).text
    names = [name for name in ("Submitted", "Last tried in vain") if f"<dt>{name}</dt>" in text]
    assert names == ([shown] if shown else [])


async def test_no_two_regions_have_one_name(pages: PagesUnderTest) -> None:
    """Equal attempts and requests are groups: a list of regions that are all called the same leads nowhere."""
    await add_tasks(pages.store, a_task("t1", status=Status.COMPLETED, settled_at=NOW))
    await add_deliveries(pages.store, "log", events=("e1", "e2"))
    for _ in range(2):
        for claim in await claim_deliveries(pages.store, now=NOW + SECOND):
            answer = ReceiverAnswer(status=200, body="got it")
            await pages.store.deliveries.finish([an_attempt(claim, "delivered", answer=answer)])
    for path in ("/tasks/t1", "/deliveries?status=all"):
        page = (await pages.get(path)).text
        names = re.findall(r'role="region" aria-label="([^"]+)"', page)
        assert (len(names), page.count("got it")) == (len(set(names)), 2)


async def test_title_names_the_task(pages: PagesUnderTest) -> None:
    """So that tabs and entries in the history of a browser differ; a task without a prompt is named by its model."""
    await add_tasks(pages.store, a_task("t1", params={"prompt": "a cat <b>"}), a_task("t2", params={}))
    assert "<title>a cat &lt;b&gt; · Boomerang</title>" in (await pages.get("/tasks/t1")).text
    assert f"<title>{a_task().model} · Boomerang</title>" in (await pages.get("/tasks/t2")).text
