"""Answers to polls in every manner that occurs: words, envelopes, results, reasons, and what stays suspicious."""

import json
from typing import Any

import httpx
import pytest

from service.domain.errors import (
    BoomerangError,
    Conflict,
    ProviderUnavailable,
    Refused,
    Throttled,
    UnknownTask,
)
from service.domain.task import Fact, Status, UpstreamId
from service.providers.callback_bodies import callback_reader, read_fact
from service.providers.status_words import VIDU_WORDS, VTRIX_WORDS, meaning
from service.providers.vidu.bodies import read_vidu
from service.providers.vtrix.bodies import read_vtrix
from tests.support.fake_providers import MockProvider
from tests.unit.providers.test_create_replies import Raw
from tests.unit.providers.test_shapes import SINCE, UNTIL

ID = UpstreamId("d758n65e878c73cmdg20")
URL = "https://cdn.example/v.mp4"
RESULT: dict[str, Any] = {"type": "video", "url": URL}


async def polled(body: object, provider: str = "vtrix") -> Fact:
    """Return the fact in the answer to a poll with this body, JSON or bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    fact: Fact = await getattr(MockProvider(httpx.Response(200, stream=Raw(raw))), provider)().fetch(ID)
    return fact


# ── status words ─────────────────────────────────────────────────────────────

DONE = "completed COMPLETE Succeeded succeed SUCCESS success done finished TASK_STATUS_SUCCEED Ready generated"
FAILURES = (
    "failed Failure error ERROR rejected expired timeout timed-out aborted job_status_failed nsfw content_moderated"
)
CANCELED = "canceled cancelled CANCELLED user_cancelled CANCELLED_BY_USER"
RUNNING = "submitted Scheduled PENDING queued queueing queuing running in_progress In-Progress TASK_STATE_RUNNING"
WORDS: list[tuple[str, Status]] = [
    *((word, Status.COMPLETED) for word in DONE.split()),
    *((word, Status.FAILED) for word in FAILURES.split()),
    *((word, Status.CANCELED) for word in CANCELED.split()),
    *((word, Status.IN_PROGRESS) for word in RUNNING.split()),
    ("In Progress", Status.IN_PROGRESS),
    (" done ", Status.COMPLETED),
]


@pytest.mark.parametrize(("word", "status"), WORDS)
async def test_synonym_has_its_status(word: str, status: Status) -> None:
    """Words of the trade are read in any case and with any separators, from both providers."""
    assert read_vtrix({"id": ID, "status": word}).status is status
    assert read_vidu({"id": ID, "state": word}).status is status


def test_each_provider_has_its_own_table() -> None:
    """The documented words of each provider are in its table, without separators and upper case."""
    for table, words in ((VTRIX_WORDS, "pending queued processing done"), (VIDU_WORDS, "created queueing success")):
        assert all(meaning(word, table) for word in words.split())
        assert all(word == word.lower() and word.isalpha() for word in table)


@pytest.mark.parametrize("word", ["warming_up", "Ready?", "partially done", "x" * 300])
async def test_unknown_word_is_an_unfinished_task(word: str) -> None:
    """It is repeated for the task's note, cut to 40 characters; in a callback it is unreadable: a poll follows."""
    fact = await polled({"id": ID, "status": word, "error": {"message": "x"}})
    assert (fact.status, fact.word, fact.error) == (Status.IN_PROGRESS, word[:40], None)
    with pytest.raises(ProviderUnavailable, match="unknown status"):
        read_fact({"id": ID, "status": word})


@pytest.mark.parametrize("status", [None, 7, "", "200", "ok", {}, [], True])
async def test_answer_without_a_status_reports_nothing(status: object) -> None:
    """A word like `ok` is about the response; an id alone does not say that the task runs."""
    with pytest.raises(ProviderUnavailable, match="no status"):
        await polled({"id": ID, "status": status})


# ── errors in a 200 ──────────────────────────────────────────────────────────

ERRORS: list[tuple[dict[str, Any], type[BoomerangError], str]] = [
    ({"status": {"code": 402, "message": "Insufficient credits"}, "data": None}, ProviderUnavailable, "402: Insuff"),
    ({"code": 402, "message": "Insufficient credits"}, ProviderUnavailable, "402: Insuff"),
    ({"success": False, "message": "try again"}, ProviderUnavailable, "try again"),
    ({"error": {"code": "x", "message": "y"}}, ProviderUnavailable, "x: y"),
    ({"code": 500, "message": "failed"}, ProviderUnavailable, "500: failed"),
    ({"code": 404, "message": "no such task"}, UnknownTask, "no such task"),
    ({"code": 401, "message": "bad key"}, Refused, "401: bad key"),
    ({"code": 429, "message": "slower"}, Throttled, "slower"),
]


@pytest.mark.parametrize(("body", "expected", "message"), ERRORS)
async def test_error_in_a_successful_poll_does_not_fail_the_task(
    body: dict[str, Any], expected: type[BoomerangError], message: str
) -> None:
    """A paid task is not failed by an error about the account or the request; the reason is kept for its note."""
    with pytest.raises(expected) as caught:
        await polled(body)
    assert type(caught.value) is expected
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"code": 400, "reason": "BadRequest", "message": "can not cancel"}, Conflict),
        ({"success": False, "message": "can not cancel"}, Conflict),
        ({"status": "error", "message": "can not cancel"}, Conflict),
        ({"id": ID, "state": "can not cancel: success", "err_code": "can not cancel"}, Conflict),
        ({"code": 404, "message": "can not cancel"}, UnknownTask),
        ({"code": 500, "message": "can not cancel"}, ProviderUnavailable),
        ({"code": 429, "message": "can not cancel"}, Throttled),
    ],
)
async def test_error_in_a_successful_cancel_does_not_cancel_the_task(
    body: dict[str, Any], expected: type[BoomerangError]
) -> None:
    """Otherwise a running, paid task would be recorded as canceled."""
    with pytest.raises(expected, match="can not cancel"):
        await MockProvider(httpx.Response(200, json=body)).vidu().cancel(ID)


async def test_reply_to_a_cancel_may_report_the_task() -> None:
    """A canceled task is canceled; one that is completed already is not, or its paid result would be lost."""
    for body in ({}, {"id": ID, "state": "failed", "err_code": "UserCancelled"}, {"state": "canceled"}):
        await MockProvider(httpx.Response(200, json=body)).vidu().cancel(ID)
    with pytest.raises(Conflict, match="the task is success"):
        await MockProvider(httpx.Response(200, json={"id": ID, "state": "success"})).vidu().cancel(ID)


async def test_error_of_a_listed_task_is_no_error_of_the_list() -> None:
    """A list whose only task has failed is read."""
    task = {"id": "7", "state": "failed", "err_code": "Policy", "payload": "another"}
    mock = MockProvider(httpx.Response(200, json={"tasks": [task]}))
    assert await mock.vidu().find("token-1".__eq__, since=SINCE, until=UNTIL) is None
    found = await mock.vidu().find("another".__eq__, since=SINCE, until=UNTIL)
    assert found is not None
    assert (found.upstream_id, found.status) == ("7", Status.FAILED)


async def test_error_in_a_successful_search_is_not_an_empty_list() -> None:
    """Otherwise a billed submission would count as not found, and be submitted again."""
    for body in ({"code": 402, "message": "no credits"}, {"success": False}, {"tasks": None, "error": "odd"}):
        with pytest.raises(ProviderUnavailable):
            await MockProvider(httpx.Response(200, json=body)).vidu().find("token-1".__eq__, since=SINCE, until=UNTIL)
    nested = {"code": 0, "data": {"tasks": [{"id": 7, "payload": "token-1"}]}}
    with pytest.raises(ProviderUnavailable):  # its entry has no status
        await MockProvider(httpx.Response(200, json=nested)).vidu().find("token-1".__eq__, since=SINCE, until=UNTIL)


# ── another task ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "body",
    [
        {"id": "another", "status": "completed", "output": [{"content": [RESULT]}]},
        {"data": {"id": "another", "status": "failed"}},
        {"id": 7, "status": "failed"},
        {"task_id": "another", "status": "completed"},
    ],
)
async def test_answer_about_another_task_is_not_taken(body: dict[str, Any]) -> None:
    """It settles nothing, and the message states it."""
    with pytest.raises(ProviderUnavailable, match=r"about another task than the requested one: (another|7)"):
        await polled(body)


@pytest.mark.parametrize(
    "body",
    [
        {"id": ID, "task_id": "inner", "status": "done", "output": URL},
        {"id": "r-1", "status": "success", "data": {"id": ID, "status": "done", "output": URL}},
        {"status": "done", "jobId": "8823", "output": URL},
        {"status": "done", "result": {"id": "file-1", "url": URL}},
        {"status": "done", "output": {"id": "file-1", "url": URL}},
        {"status": "done", "output": [{"id": "file-1", "content": [RESULT]}]},
    ],
)
async def test_ids_beside_that_of_the_task_are_not_suspicious(body: dict[str, Any]) -> None:
    """Ids of requests, files and jobs behind the provider do not count."""
    fact = await polled(body)
    assert (fact.upstream_id, fact.status, [item["url"] for item in fact.output]) == (ID, Status.COMPLETED, [URL])


@pytest.mark.parametrize(
    "body",
    [
        {"code": 200, "data": {"id": ID, "status": "SUCCESS", "url": URL}},
        {"code": 200, "data": [{"task_id": ID, "status": "SUCCEEDED", "video_url": URL}]},
        {"status": "success", "data": {"id": ID, "status": "done", "content": {"video_url": URL}}},
        {"task": {"id": ID, "status": "succeeded", "content": {"url": URL}}},
        {"request_id": "r-1", "output": {"task_id": ID, "task_status": "SUCCEEDED", "video_url": URL}},
        {"id": ID, "output": {"status": "succeeded", "video_url": URL}},
        {"id": ID, "status": "succeeded", "content": {"video_url": URL}},
        {"id": ID, "status": "completed", "url": URL},
        {"id": ID, "status": "completed", "data": {"id": "file-1", "status": "failed", "url": URL}},
        {"id": ID, "output": {"id": "file-1", "status": "stored", "url": URL}, "data": {"status": "done"}},
    ],
)
@pytest.mark.parametrize("provider", ["vtrix", "vidu"])
async def test_task_may_hold_the_address_itself(provider: str, body: dict[str, Any]) -> None:
    """An address beside the status does not make the task's object a mere result, whose status would not count."""
    fact = await polled(body, provider)
    assert (fact.upstream_id, fact.status, [item["url"] for item in fact.output]) == (ID, Status.COMPLETED, [URL])


async def test_empty_address_beside_the_status_is_no_result() -> None:
    """A task that is nested with an empty address is unfinished, or failed with its reason."""
    assert (
        await polled({"code": 200, "data": {"id": ID, "status": "RUNNING", "url": ""}})
    ).status is Status.IN_PROGRESS
    failed = await polled({"code": 200, "data": {"id": ID, "status": "FAILED", "url": None, "message": "unsafe"}})
    assert failed.error is not None
    assert (failed.status, failed.error.message) == (Status.FAILED, "unsafe")


# ── results ──────────────────────────────────────────────────────────────────

RESULTS: list[tuple[object, list[str]]] = [
    ([{"content": [RESULT]}], [URL]),
    ({"content": [RESULT]}, [URL]),
    ([RESULT], [URL]),
    ([URL], [URL]),
    (URL, [URL]),
    ({"video_url": URL}, [URL]),
    ({"videos": [{"url": URL}]}, [URL]),
    ([{"content": [{"url": None}, RESULT, {"type": "video"}, 7, "x", {"url": "ftp://x/y"}]}], [URL]),
    ([{"content": [RESULT | {"url": f"\n {URL} "}]}], [URL]),
    ([{"content": [RESULT | {"url": "https://cdn.example/a b.mp4?x=1 2"}]}], ["https://cdn.example/a%20b.mp4?x=1%202"]),
    ([{"content": [RESULT | {"url": "/files/v.mp4?sig=1"}]}], ["https://vtrix.test/files/v.mp4?sig=1"]),
    ([{"content": [RESULT | {"url": "files/v.mp4"}]}], ["https://vtrix.test/files/v.mp4"]),
    ([{"content": [RESULT | {"url": "v.mp4"}]}], ["https://vtrix.test/v.mp4"]),
    ([{"content": [RESULT | {"url": "//cdn.example/v.mp4"}]}], [URL]),
    ([{"content": [{"url": "", "watermarked_url": URL}]}], [URL]),
    ([{"content": [{"watermarked_url": "https://cdn.example/w.mp4", "url": URL}]}], [URL]),
    ([{"signedUrl": URL}], [URL]),
]


@pytest.mark.parametrize(("output", "urls"), RESULTS, ids=range(len(RESULTS)))
async def test_results_with_an_address_are_taken(output: object, urls: list[str]) -> None:
    """A result without an address, blanks, a relative path or another nesting do not hide a paid result."""
    fact = await polled({"id": ID, "status": "completed", "output": output})
    assert [item["url"] for item in fact.output] == urls


async def test_relative_address_without_a_base_is_no_result() -> None:
    """Without the provider's address it cannot be resolved; callbacks are read with it."""
    body = {"id": ID, "status": "completed", "output": "/files/v.mp4"}
    assert read_fact(body).without_result
    assert callback_reader("https://vtrix.test/", None)(body).output[0]["url"] == "https://vtrix.test/files/v.mp4"


async def test_odd_json_around_a_result_is_tolerated() -> None:
    """Megabytes of echoed inputs, NaN, a repeated key, half a character and a byte-order mark do not hide a result."""
    result = json.dumps({"id": ID, "status": "completed", "output": [{"content": [RESULT]}]})[1:]
    inputs = "A" * 6_000_000
    for before in (
        '{"seed": NaN, ',
        '{"id": null, ',
        '{"prompt": "\\ud83c", ',
        "\ufeff{",
        f'{{"images": ["{inputs}"], ',
    ):
        assert (await polled((before + result).encode())).output[0]["url"] == URL
    with pytest.raises(ProviderUnavailable, match="not complete"):
        await polled(("{" + result[:-4]).encode())
