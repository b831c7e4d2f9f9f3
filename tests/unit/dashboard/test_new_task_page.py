"""The form for a new task that is filled in from another one: what it submits again, and what is left of the inputs."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, update

from service.domain.key_ring import KeyRing
from service.domain.ports.audit import AuditRow
from service.domain.sealed_targets import secret_id
from service.domain.task import Json, Status, Task, TaskId
from service.domain.task_update import RESUBMITTED_WARNING
from service.storage.delivery_tables import sealed_secrets
from service.storage.tables import input_references, tasks
from service.tasks.secret_sealer import SecretSealer
from tests.storage.builders import NOW
from tests.support.sample_media import image, uri
from tests.unit.dashboard.conftest import KEYS, PagesUnderTest, fields_in, open_pages

PICTURE = uri("image/png", image())
TOKEN = "token-of-the-receiver"
PARAMS: Json = {
    "prompt": "a cat\n on a roof",
    "images": [PICTURE, "https://files.example/dog.png"],
    "duration": 5,
    "seed": 7,
    "payload": "mine\r\nas it is",
    "meta_data": '{"a": 1}',
    "callback_url": "https://calls.example/done",
}
NOTIFY = [{"handler": "webhook", "url": f"https://hooks.example/in?token={TOKEN}"}]


async def accepted(pages: PagesUnderTest, **more: Any) -> TaskId:
    """Create a task of ann and return its id."""
    await pages.application.keys.renew()  # else no secret is sealed
    body = {"model": "viduq2_pro_reference", "params": PARAMS, "metadata": {"order": 1}, "notify": NOTIFY, **more}
    answer = await pages.http.post("/v1/tasks", json=body, headers={"Authorization": f"Bearer {KEYS['ann']}"})
    return TaskId(answer.raise_for_status().json()["id"])


async def ended(pages: PagesUnderTest, status: Status = Status.FAILED, **more: Any) -> TaskId:
    """Create a task of ann, set its status, and return its id."""
    task_id = await accepted(pages, **more)
    await change(pages, status=status.value, settled_at=NOW if status is Status.FAILED else None)
    return task_id


async def change(pages: PagesUnderTest, **values: object) -> None:
    """Change all tasks in the database."""
    async with pages.store._database.writing() as write:
        await write.connection.execute(update(tasks).values(**values))


async def task_at(pages: PagesUnderTest, page: httpx.Response) -> Task:
    """Return the task to whose page an answer leads."""
    assert page.status_code == 303, page.text
    task = await pages.store.queries.task(TaskId(page.headers["location"].rpartition("/")[2]))
    assert task
    return task


async def stored(pages: PagesUnderTest, task_id: TaskId) -> Task:
    """Return a task."""
    found = await pages.store.queries.task(task_id)
    assert found
    return found


async def opened(pages: PagesUnderTest, task: Task) -> object:
    """Return the address of the first notify entry of a task, which is sealed."""
    assert secret_id(task.notify[0])
    sealer = SecretSealer(store=pages.store.sealed_secrets, keys=KeyRing(["k" * 32]), new_id=lambda: "")
    return (await sealer.open(task.notify[0]))["url"]


async def actions(pages: PagesUnderTest) -> list[AuditRow]:
    """Return the entries of the audit log, newest first."""
    log = pages.store.audit_log
    return [*await log.entries(actor=None, action=None, target=None, before=None, limit=9)]


async def test_edits_submit_the_task_again(pages: PagesUnderTest) -> None:
    """The new task is linked, and has all that was not changed: as by the API's resubmission, also for an admin."""
    old = await stored(pages, await ended(pages))
    page = await pages.get(f"/new?from={old.id}")
    assert "hooks.example" in page.text
    assert TOKEN not in page.text
    fields = fields_in(page)
    assert fields["resubmit"] == ["on"]
    new = await task_at(
        pages, await pages.post("/new", "admin", **fields | {"duration": "8", "metadata": '{"order": 2}'})
    )
    assert (new.resubmission_of, new.client, new.model) == (old.id, "ann", old.model)
    assert new.params == old.params | {"duration": 8}
    assert new.metadata == {"order": 2}
    blobs = pages.store.blobs
    assert (await blobs.payload(new.id), await blobs.meta_data(new.id)) == (PARAMS["payload"], PARAMS["meta_data"])
    assert [entry["url"] for entry in new.notify[1:]] == [entry["url"] for entry in old.notify[1:]]
    assert await opened(pages, new) == NOTIFY[0]["url"]
    [entry] = [row.entry for row in await actions(pages) if row.entry.action == "task.resubmit"]
    assert (entry.target, entry.detail, entry.actor) == (old.id, f"as {new.id}, with edits", "ops")


async def test_form_of_a_resubmission_sent_twice_makes_one_task(pages: PagesUnderTest) -> None:
    """A second press is no second charge; entries that are given in the form are added."""
    fields = fields_in(await pages.get(f"/new?from={await ended(pages)}", "ann"))
    fields["notify_url"] = "https://more.example/hook"
    first, second = [await task_at(pages, await pages.post("/new", "ann", **fields)) for _ in range(2)]
    assert first.id == second.id
    assert [entry["url"] for entry in first.notify[1:]] == [
        "https://calls.example/done",
        "https://more.example/hook",
    ]


async def test_task_in_doubt_is_not_submitted_automatically_as_well(pages: PagesUnderTest) -> None:
    """With ON_IN_DOUBT=resubmit it would be a second charge; the page warns of the first one."""
    task_id = await ended(pages, Status.IN_DOUBT)
    page = await pages.get(f"/new?from={task_id}", "ann")
    assert "may be charged a second time" in page.text
    await task_at(pages, await pages.post("/new", "ann", **fields_in(page)))
    assert RESUBMITTED_WARNING in (await stored(pages, task_id)).warnings


async def test_task_that_goes_on_meanwhile_is_not_submitted_again(pages: PagesUnderTest) -> None:
    """The provider reported it after the form was shown: nothing is created, and the form keeps what was typed."""
    task_id = await ended(pages, Status.IN_DOUBT)
    fields = fields_in(await pages.get(f"/new?from={task_id}", "ann")) | {"prompt": "typed here"}
    await change(pages, status="in_progress")
    page = await pages.post("/new", "ann", **fields)
    assert page.status_code == 409
    assert "it has not ended: it is in progress" in page.text
    assert "resubmit" not in fields_in(page)
    assert fields_in(page)["prompt"] == ["typed here"]
    assert await actions(pages) == []


async def test_deleted_secret_leaves_an_unrelated_task(pages: PagesUnderTest) -> None:
    """It is deleted after the last delivery: the form keeps what was typed, and says how to send it."""
    task_id = await ended(pages)
    async with pages.store._database.writing() as write:
        await write.connection.execute(delete(sealed_secrets))
    fields = fields_in(await pages.get(f"/new?from={task_id}", "ann")) | {"prompt": "typed here"}
    page = await pages.post("/new", "ann", **fields)
    assert page.status_code == 409
    assert "submit a new task with it. To create an unrelated task instead, take away the check mark." in page.text
    again = fields_in(page)
    assert (again.pop("resubmit"), again["prompt"]) == (["on"], ["typed here"])
    new = await task_at(pages, await pages.post("/new", "ann", **again))
    assert (new.params["prompt"], new.resubmission_of) == ("typed here", None)


@pytest.mark.parametrize("case", ["unfinished", "another model", "unchecked"])
async def test_other_tasks_become_unrelated_ones(pages: PagesUnderTest, case: str) -> None:
    """Where the task cannot be submitted again, or shall not be, the page says so, and names what is not taken over."""
    task_id = await (accepted(pages) if case == "unfinished" else ended(pages))
    model = "&model=viduq2_pro_fast_text2video" if case == "another model" else ""
    page = await pages.get(f"/new?from={task_id}{model}", "ann")
    fields = fields_in(page)
    if case == "unchecked":
        assert fields.pop("resubmit") == ["on"]
    else:
        reason = "it has not ended: it is queued" if case == "unfinished" else "its model is viduq2_pro_reference"
        assert f"because {reason}. This creates an unrelated task, which belongs to ann" in page.text
        assert "not to webhook (hooks.example)" in page.text
        assert "resubmit" not in fields
    new = await task_at(pages, await pages.post("/new", "ann", **fields))
    assert (new.resubmission_of, new.notify, new.metadata) == (None, (), {"order": 1})
    assert await pages.store.blobs.meta_data(new.id) == PARAMS["meta_data"]


async def test_deleted_inputs_are_named(pages: PagesUnderTest) -> None:
    """Neither page offers what RETENTION has deleted; a form that still has it is answered with the reason."""
    task_id = await ended(pages)
    before = fields_in(await pages.get(f"/new?from={task_id}", "ann"))
    assert before["images_from"] == ["images.0"]
    assert f"/tasks/{task_id}/inputs/images.0" in (await pages.get(f"/tasks/{task_id}", "ann")).text
    async with pages.store._database.writing() as write:
        await write.connection.execute(delete(input_references))
    shown = (await pages.get(f"/tasks/{task_id}", "ann")).text
    assert "/inputs/images.0" not in shown
    assert "image/png, older than RETENTION and deleted" in shown
    page = await pages.get(f"/new?from={task_id}", "ann")
    assert "images.0 is older than RETENTION and deleted here" in page.text
    fields = fields_in(page)
    assert "images_from" not in fields
    assert fields["images_kept"] == ["https%3A//files.example/dog.png|https://files.example/dog.png"]
    late = await pages.post("/new", "ann", **before)
    assert (late.status_code, "images.0 is older than RETENTION and deleted here" in late.text) == (422, True)
    new = await task_at(pages, await pages.post("/new", "ann", **fields))
    assert new.params["images"] == ["https://files.example/dog.png"]


async def test_addresses_are_links_that_are_safe(pages: PagesUnderTest) -> None:
    """The policy of the pages loads no picture of another host; only http and https are links."""
    odd = ["https://files.example/dog.png", "javascript://files.example/%0aalert(1)"]
    task_id = await accepted(pages)
    await change(pages, params={"images": odd})
    page = (await pages.get(f"/tasks/{task_id}", "ann")).text
    assert 'href="https://files.example/dog.png" rel="noopener noreferrer" target="_blank"' in page
    assert 'href="javascript' not in page
    assert odd[1] in page


async def test_long_text_is_refused_and_not_cut(pages: PagesUnderTest) -> None:
    """No browser cuts what is pasted; the service names the limit beside the field, which keeps the whole text."""
    page = await pages.get("/new", "ann")
    assert 'maxlength="' not in page.text.partition("data-new-task")[2]
    assert "At most 5,000 characters." in page.text
    long = "\N{CAT FACE}" * 5001
    answer = await pages.post("/new", "ann", **fields_in(page) | {"prompt": long, "images": "https://a.example/b.png"})
    assert answer.status_code == 422
    assert 'id="prompt-fault"' in answer.text
    assert fields_in(answer)["prompt"] == [long]


@pytest.mark.parametrize("path", ["/new", "/new?model=viduq2_reference2video"])
async def test_pages_have_one_status_region(pages: PagesUnderTest, path: str) -> None:
    """Several would be announced at once, in any order."""
    text = (await pages.get(path)).text
    assert (text.count('role="status"'), text.count("aria-live")) == (1, 0)


async def test_selection_of_the_page_needs_the_script(pages: PagesUnderTest) -> None:
    """Without it the control would do nothing: it is hidden until the script shows it."""
    await accepted(pages)
    assert '<label class="box" hidden><input type="checkbox" id="select-all">' in (await pages.get("/tasks")).text


OTHER = "another-model_1.5"


async def test_task_of_an_unchecked_model_keeps_it(tmp_path: Path) -> None:
    """All of its parameters stand in one field as JSON, and are sent again with stored files, also in another place."""
    params = {"prompt": "a cat", "frames": [PICTURE, {"first": PICTURE}], "payload": "mine", "old": 1}
    async with open_pages(tmp_path, ALLOW_UNCHECKED_MODELS="true") as pages:
        task_id = await ended(pages, model=OTHER, params=params)
        old = await stored(pages, task_id)
        page = await pages.get(f"/new?from={task_id}", "ann")
        fields = fields_in(page)
        assert fields["model"] == [OTHER]
        shown = json.loads(fields["params"][0])
        assert shown == old.params | {"payload": "mine"}
        del shown["old"]
        edited = json.dumps(shown | {"frames": shown["frames"][::-1]})
        new = await task_at(pages, await pages.post("/new", "ann", **fields | {"params": edited}))
        assert (new.resubmission_of, new.model) == (task_id, OTHER)
        assert new.params == {"prompt": "a cat", "frames": [{"first": shown["frames"][0]}, shown["frames"][0]]}
        assert await pages.store.blobs.payload(new.id) == "mine"
        assert (await pages.store.blobs.load(new.id))["frames.1"].data == image()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "must be a JSON object, is [1]"),
        ("{", "is not accepted JSON"),
        ('{"payload": 1}', "payload: "),
        ('{"a": [{"media_type": "image/png", "bytes": 1, "sha256": "00"}]}', "a.0 is not stored here"),
    ],
)
async def test_faults_of_unchecked_parameters_stand_beside_them(tmp_path: Path, text: str, message: str) -> None:
    """Nothing is created, and the text stays."""
    async with open_pages(tmp_path, ALLOW_UNCHECKED_MODELS="true") as pages:
        fields = fields_in(await pages.get(f"/new?model={OTHER}", "ann"))
        page = await pages.post("/new", "ann", **fields | {"params": text})
        assert page.status_code == 422
        assert message in page.text.partition('id="params-fault"')[2].partition("</p>")[0].replace("&#39;", "'")
        assert fields_in(page)["params"] == [text]


async def test_unknown_model_needs_the_setting(pages: PagesUnderTest) -> None:
    """Without it there is no form: a task of such a model is refused with the reason, and not shown as another one."""
    task_id = await ended(pages)
    await change(pages, model=OTHER)
    page = await pages.get(f"/new?from={task_id}", "ann")
    assert (page.status_code, f"The model {OTHER} of this task" in page.text) == (409, True)
    assert "ALLOW_UNCHECKED_MODELS" in page.text
    assert (await pages.get(f"/new?model={OTHER}")).status_code == 422
    assert (await pages.post("/new", "ann", model=OTHER, params="{}")).status_code == 404
    assert "Another model" not in (await pages.get("/new")).text
