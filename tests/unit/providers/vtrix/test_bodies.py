"""Facts in every shape of a Vtrix body."""

from typing import Any

import pytest

from service.domain.errors import ProviderUnavailable
from service.domain.task import Fact, Status, TaskError, UpstreamId, Usage
from service.providers.vtrix.bodies import read_vtrix, vtrix_error

ID = "d758n65e878c73cmdg20"
URL = "https://cdn.example/v.mp4?sign=a%2Fb&x=1"


def body(status: str = "in_progress", **more: Any) -> dict[str, Any]:
    """Return a task body."""
    return {"id": ID, "created_at": 1778068182, "status": status, "model": "viduq2_pro_reference", **more}


def completed(*contents: Any, **more: Any) -> Fact:
    """Return the fact in a completed body with these contents."""
    return read_vtrix(body("completed", output=[{"content": list(contents)}], **more))


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("pending", Status.IN_PROGRESS),
        ("queued", Status.IN_PROGRESS),
        ("processing", Status.IN_PROGRESS),
        ("in_progress", Status.IN_PROGRESS),
        ("completed", Status.COMPLETED),
        ("done", Status.COMPLETED),
        ("failed", Status.FAILED),
    ],
)
def test_each_status_is_mapped(word: str, status: Status) -> None:
    """Documented statuses and other known ones map to a status."""
    assert read_vtrix(body(word)).status is status


def test_full_body_is_read() -> None:
    """A completed task has its id, result, usage and the payload token."""
    content = {"type": "video", "url": URL, "duration": 5, "jobId": "8823"}
    fact = completed(content, usage={"cost": "0.35", "discount": 0.9}, metadata={"in_queue_at": 1}, payload="ours")
    assert fact == Fact(
        status=Status.COMPLETED,
        upstream_id=UpstreamId(ID),
        output=({"type": "video", "url": URL, "duration": 5, "job_id": "8823"},),
        usage=Usage(cost="0.35", discount=0.9),
        correlation="ours",
    )


@pytest.mark.parametrize(
    ("written", "read"), [(5, 5), ("5", 5), (5.5, 5.5), ("5.5", 5.5), (None, None), (True, None), ("long", None)]
)
def test_duration_is_a_number_or_absent(written: object, read: float | None) -> None:
    """Durations are numbers or text; any other value is omitted."""
    assert completed({"type": "video", "url": URL, "duration": written}).output[0].get("duration") == read


@pytest.mark.parametrize(
    ("error", "read"),
    [
        ({"code": 2014001, "error_message": "no"}, TaskError(code="2014001", message="no")),
        ({"code": "002014001", "message": "no"}, TaskError(code="002014001", message="no")),
        ("plain words", TaskError(code="failed", message="plain words")),
        ({"code": None}, TaskError(code="failed", message="the upstream gave no reason")),
        (None, TaskError(code="failed", message="the upstream gave no reason")),
        ({"code": True, "message": ["x"]}, TaskError(code="failed", message="x")),
        ("two\x00\nlines\x1b[31m", TaskError(code="failed", message="two lines [31m")),
    ],
)
def test_error_is_an_object_or_text(error: object, read: TaskError) -> None:
    """The reason of a failure is read in every form, as one clean line."""
    assert read_vtrix(body("failed", error=error)).error == read


def test_texts_are_limited() -> None:
    """A long reason is cut."""
    error = read_vtrix(body("failed", error={"code": "c" * 5000, "message": "m" * 10**6})).error
    assert error is not None
    assert (len(error.code), len(error.message)) == (100, 2000)


@pytest.mark.parametrize(
    ("progress", "read"),
    [
        (0, 0.0),
        (0.25, 0.25),
        (1, 1.0),
        (7, 0.07),
        (45, 0.45),
        ("45", 0.45),
        ("45%", 0.45),
        (" 45.0 % ", 0.45),
        ("0.45", 0.45),
        (0.45, 0.45),
        ("1%", 0.01),
        ("100%", 1.0),
        (250, 1.0),
        (-1, 0.0),
        (10**400, None),
        (True, None),
        ("%", None),
        ("soon", None),
        (None, None),
        (float("nan"), None),
        (float("inf"), None),
        ([], None),
    ],
)
def test_progress_is_a_fraction_or_absent(progress: object, read: float | None) -> None:
    """Progress lies between 0 and 1 for every value; fractions, percentages and texts mean the same."""
    assert read_vtrix(body(progress=progress)).progress == read


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"cost": 0.35}, Usage(cost="0.35")),
        ({"cost": 1, "discount": "0.9"}, Usage(cost="1", discount=0.9)),
        ({"cost": 1e-7}, Usage(cost="0.0000001")),
        ({"cost": "0.350"}, Usage(cost="0.350")),
        ({"cost": "free"}, None),
        ({"cost": -1}, None),
        ({"cost": float("inf"), "discount": float("nan")}, None),
        ({"cost": "1e999999999"}, None),
        ({"quantity": 1, "unit_price": "2", "extra_info": {}}, None),
        ("0.35", None),
    ],
)
def test_cost_is_unchanged(usage: object, read: Usage | None) -> None:
    """Costs are text or numbers; any other value is omitted."""
    assert read_vtrix(body("completed", usage=usage)).usage == read


def test_failure_needs_no_id() -> None:
    """A create reply may fail before the task has an id."""
    fact = read_vtrix({"status": "failed", "error": "no balance"})
    assert (fact.status, fact.upstream_id) == (Status.FAILED, None)


def test_completed_task_may_have_no_output() -> None:
    """A missing or empty output is a result without files."""
    assert read_vtrix(body("completed")).output == ()
    assert read_vtrix(body("completed", output=[])).output == ()
    assert read_vtrix(body("completed", output=[{"content": None}])).output == ()


@pytest.mark.parametrize(
    "output",
    [
        "x",
        ["x"],
        [{"content": "x"}],
        [{"content": ["x"]}],
        [{"content": [{"type": "video"}]}],
        [{"content": [{"url": "file:///etc/passwd"}]}],
        [{"content": [{"url": "javascript:alert(1)"}]}],
        [{"content": [{"url": "http:///nowhere"}]}],
        [{"content": [{"url": "https://[broken/x"}]}],
        [{"content": [{"url": "https://x/" + "a" * 9000}]}],
    ],
    ids=lambda output: repr(output)[:60],
)
def test_output_without_an_address_is_no_result(output: object) -> None:
    """Results that have no http address are left out; the task is completed without any result."""
    fact = read_vtrix(body("completed", output=output))
    assert (fact.status, fact.output, fact.without_result) == (Status.COMPLETED, (), True)
    assert fact.error == TaskError(code="no_result", message="the upstream gave no reason")


@pytest.mark.parametrize(
    "invalid",
    [
        None,
        [],
        "text",
        7,
        {},
        {"id": ID},
        {"status": "in_progress"},
        {"id": "", "status": "queued"},
        {"id": ID, "status": None},
        {"id": ID, "status": {"code": 200}},
        {"status": {"code": 40201, "message": "x"}, "data": None},
        {"id": "../../admin", "status": "queued"},
        {"id": "..", "status": "queued"},
        {"id": "a" * 513, "status": "queued"},
        {"id": "a b", "status": "queued"},
        {"id": 0, "status": "queued"},
        {"id": True, "status": "queued"},
    ],
    ids=lambda invalid: repr(invalid)[:60],
)
def test_any_other_body_is_provider_unavailable(invalid: object) -> None:
    """An unreadable body says nothing about the task."""
    with pytest.raises(ProviderUnavailable):
        read_vtrix(invalid)


@pytest.mark.parametrize("payload", [None, 7, "", {}, "x" * 2000])
def test_only_a_short_text_is_a_correlation_token(payload: object) -> None:
    """A payload that cannot be a token counts as missing."""
    assert read_vtrix(body(payload=payload)).correlation is None


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (b'{"message": "bad key"}', ("", "bad key")),
        (b'{"error": "bad key"}', ("", "bad key")),
        (b'{"error": {"code": "invalid_key", "message": "bad key"}, "request_id": "r"}', ("invalid_key", "bad key")),
        (b'{"error": {"code": 401, "message": "bad key"}}', ("401", "bad key")),
        (b'{"detail": "bad key"}', ("", "bad key")),
        (b'{"detail": [{"loc": ["body"], "msg": "too long"}, {"msg": "too old"}]}', ("", "too long; too old")),
        (b'{"status": {"code": 402, "message": "no", "error_code": 40201}, "data": null}', ("40201", "no")),
        (b'{"status": {"code": 402, "message": "no"}, "data": null}', ("402", "no")),
        (b'{"error_code": 40208, "message": "no"}', ("40208", "no")),
        (b"<html><head><style>p{}</style></head><body><h1>502 Bad\nGateway</h1></body>", ("", "502 Bad Gateway")),
        (b"", ("", "")),
        (b"\xff\xfe\x00", ("", "��")),
        (b"[1, 2]", ("", "")),
        (b'{"unknown": 1}', ("", "")),
        ({"message": "parsed before"}, ("", "parsed before")),
        ("text", ("", "text")),
        (None, ("", "")),
    ],
)
def test_every_error_response_is_read(raw: object, read: tuple[str, str]) -> None:
    """Code and message are read from every shape of an error response, including HTML and empty ones."""
    assert vtrix_error(raw) == read


def test_html_page_becomes_a_short_line() -> None:
    """The text of a long error page is cut."""
    assert len(vtrix_error(b"<p>" + b"word " * 100_000)[1]) <= 200
