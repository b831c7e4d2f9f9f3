"""Tasks in the form of the provider's API, and the addresses that get it."""

from datetime import timedelta
from typing import Any

import pytest

from service.domain.callback_forms import VTRIX, callback_entry, has_form, with_body
from service.domain.task import Status, TaskError, TaskId, Usage
from service.domain.task_view import task_json
from service.domain.vtrix_shape import vtrix_task
from tests.unit.api.fakes import NOW, a_task

URL = "https://hooks.example.org/callback"
WORDS = {Status.COMPLETED: "completed", Status.FAILED: "failed", Status.CANCELED: "failed", Status.EXPIRED: "failed"}


@pytest.mark.parametrize("status", Status)
def test_each_status_has_one_of_the_documented_words(status: Status) -> None:
    """Only a completed task has output and usage, only a failed one an error, only an unfinished one a progress."""
    body = vtrix_task(task_json(a_task(status=status)))
    word = WORDS.get(status, "in_progress")
    assert body["status"] == word
    parts = {"completed": {"output", "usage"}, "failed": {"error"}, "in_progress": {"progress"}}[word]
    assert body.keys() == {"id", "created_at", "status", "model", "metadata"} | parts
    assert (body["created_at"], body["metadata"]["in_queue_at"]) == (int(NOW.timestamp()),) * 2


def test_result_has_the_names_of_the_provider() -> None:
    """The provider's id and URL are in the content; where our copy is stays here."""
    output = (
        {"type": "video", "url": "https://cdn/v.mp4", "duration": 5, "job_id": "89", "archived_url": "file:///v.mp4"},
        {"type": "image", "url": "https://cdn/i.png"},
    )
    task = a_task(status=Status.COMPLETED, output=output, usage=Usage(cost="0.35"), settled_at=NOW)
    body = vtrix_task(task_json(task), payload="mine", meta_data="also mine")
    first = {"type": "video", "url": "https://cdn/v.mp4", "duration": 5, "jobId": "89"}
    assert body["output"] == [{"content": [first, {"type": "image", "url": "https://cdn/i.png"}]}]
    assert body["usage"] == {"cost": "0.35"}
    assert (body["payload"], body["meta_data"]) == ("mine", "also mine")
    assert body["metadata"]["completed_at"] == int(NOW.timestamp())


@pytest.mark.parametrize(
    ("code", "shown"), [("1013", 1013), ("002014001", "002014001"), ("E1", "E1"), ("9" * 40, "9" * 40)]
)
def test_code_of_an_error_is_a_number_where_nothing_is_lost(code: str, shown: object) -> None:
    """The provider documents an integer, and sends texts too."""
    task = a_task(status=Status.FAILED, error=TaskError(code=code, message="no"))
    assert vtrix_task(task_json(task))["error"] == {"code": shown, "error_message": "no"}


def test_canceled_and_expired_tasks_have_a_reason() -> None:
    """A client reads the reason where it reads that of a failure."""
    canceled = vtrix_task(task_json(a_task(status=Status.CANCELED)))
    expired = vtrix_task(task_json(a_task(status=Status.EXPIRED, deadline_at=NOW + timedelta(hours=2))))
    assert canceled["error"]["code"] == "UserCancelled"
    assert expired["error"]["code"] == "deadline_passed"


def test_address_with_a_form_is_none_for_the_previous_release() -> None:
    """Its scheme is not http: a process that knows no forms posts nothing; for a handler it is complete."""
    entry = callback_entry(URL, VTRIX)
    assert (entry["url"], has_form(entry)) == (f"vtrix+{URL}", True)
    assert callback_entry(URL, None) == {"handler": "webhook", "url": URL}
    task: dict[str, Any] = task_json(a_task(id=TaskId("task-9"), status=Status.COMPLETED))
    target = with_body(entry, task, payload=None, meta_data=None)
    assert (target["url"], target["body"]["id"], "form" in target) == (URL, "task-9", False)


@pytest.mark.parametrize("target", [{}, {"url": URL, "form": VTRIX}, {"url": f"vtrix+{URL}"}, {"form": VTRIX}])
def test_other_targets_have_no_form(target: dict[str, Any]) -> None:
    """A field `form` in an entry of another handler means nothing."""
    assert not has_form(target)
