"""Reasons of failures, progress, and the provider's key in texts."""

import html
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import pytest

from service.domain.errors import BoomerangError, Refused, ReplyLost
from service.domain.task import Status, TaskError, UpstreamId
from service.providers import Vtrix
from tests.support.fake_providers import KEY, MockProvider, provider_request
from tests.unit.providers.test_answers import ID, RESULT, polled

# ── reasons ──────────────────────────────────────────────────────────────────

REASONS: list[dict[str, Any]] = [
    {"error": "too dark"},
    {"error": {"message": "too dark"}},
    {"error": {"error_message": "too dark"}},
    {"error": {"msg": "too dark"}},
    {"error": {"error": {"detail": "too dark"}}},
    {"error": {"en": "too dark", "zh": "tai an"}},
    {"error": {"zh": "too dark"}},
    {"error": ["too dark"]},
    {"error": [{"message": "too dark"}, {"message": "too dark"}]},
    {"error": None, "message": "too dark"},
    {"error": {}, "message": "success", "fail_reason": "too dark"},
    {"failReason": "too dark"},
    {"failure_reason": {"message": "too dark"}},
    {"err_msg": "too dark"},
    {"task_status_msg": "too dark"},
    {"data": {"id": ID, "status": "failed", "fail_reason": "too dark"}, "message": "ok"},
    {"data": {"id": ID, "status": "failed"}, "message": "too dark"},
    {"errors": [{"loc": ["x"], "msg": "too dark"}]},
    {"reason": "too dark"},
    {"output": {"task_status": "FAILED", "code": "x", "message": "too dark"}},
    {"output": [{"content": [{"error": {"message": "too dark"}}]}]},
    {"metadata": {"fail_reason": "too dark"}},
    {"error": '{"code": 7, "message": "too dark"}'},
    {"error": "content_policy_violation", "message": "too dark"},
    {"error": "invalid_request", "error_description": "too dark"},
]


@pytest.mark.parametrize("fields", REASONS, ids=range(len(REASONS)))
async def test_reason_of_a_failure_is_read_from_every_shape(fields: dict[str, Any]) -> None:
    """The user sees the provider's reason wherever it stands."""
    body = fields if "data" in fields else {"id": ID, "status": "failed"} | fields
    fact = await polled(body)
    assert fact.status is Status.FAILED
    assert fact.error is not None
    assert fact.error.message == "too dark"


async def test_error_of_one_word_is_the_code_of_the_reason_beside_it() -> None:
    """Neither of the two is lost."""
    fact = await polled({"id": ID, "status": "failed", "error": "content_policy_violation", "message": "too dark"})
    assert fact.error == TaskError(code="content_policy_violation", message="too dark")


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("expired", TaskError(code="expired", message="the upstream reports the status expired")),
        ("TIMEOUT", TaskError(code="TIMEOUT", message="the upstream reports the status TIMEOUT")),
        ("error", TaskError(code="failed", message="the upstream gave no reason")),
    ],
)
async def test_word_of_a_failure_is_its_reason_without_another(word: str, error: TaskError) -> None:
    """A word that states more than a failure is repeated."""
    assert (await polled({"id": ID, "status": word})).error == error


@pytest.mark.parametrize(
    "fields",
    [
        {"output": [], "message": "filtered"},
        {"output": None, "error": {"message": "filtered"}},
        {"output": [{"content": [{"type": "video", "url": "", "error": {"message": "filtered"}}]}]},
        {"output": [{"content": [{"url": None, "filter_reason": ["filtered"]}]}]},
        {"output": [{"content": [], "block_reason": "filtered"}]},
        {"raiMediaFilteredReasons": ["filtered"]},
    ],
)
async def test_reason_of_a_missing_result_is_kept(fields: dict[str, Any]) -> None:
    """The reason beside a filtered result is the task's, if it has no other result."""
    fact = await polled({"id": ID, "status": "completed"} | fields)
    assert fact.without_result
    assert fact.error is not None
    assert fact.error.message == "filtered"


async def test_reason_of_a_filtered_result_beside_a_good_one_is_a_warning() -> None:
    """The good result is taken, and the task warns about the other one."""
    output = [{"content": [RESULT, {"type": "video", "url": None, "error": "filtered"}]}]
    fact = await polled({"id": ID, "status": "completed", "output": output})
    assert (len(fact.output), fact.error, fact.warnings) == (1, None, ("the upstream left out a result: filtered",))


# ── progress ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "fields",
    [
        {"progress": 0.45},
        {"progress": 45},
        {"progress": 45.0},
        {"progress": "45%"},
        {"progress": "45"},
        {"progress": "0.45"},
        {"percent": 45},
        {"percentage": "45 %"},
        {"data": {"id": ID, "status": "running", "progress": "45%"}},
    ],
)
async def test_progress_means_the_same_in_each_form(fields: dict[str, Any]) -> None:
    """Fractions, percentages and texts are the same progress."""
    assert (await polled({"id": ID, "status": "running"} | fields)).progress == 0.45


# ── the provider's key ───────────────────────────────────────────────────────


@pytest.mark.parametrize("key", ["key", "many", "d758n65e878c73c"])
async def test_short_key_is_not_searched_for(key: str) -> None:
    """A key that occurs in ordinary words, ids or addresses corrupts none of them."""
    body = {"id": ID, "status": "failed", "error": {"message": "too many requests with that monkey"}}
    vtrix = Vtrix(MockProvider(httpx.Response(200, json=body)).transport, base_url="https://vtrix.test", key=key)
    fact = await vtrix.fetch(ID)
    assert fact.error is not None
    assert fact.error.message == "too many requests with that monkey"


async def test_key_is_masked_in_texts_only() -> None:
    """Ids and addresses that contain the key stay as they are; texts for people do not show it."""
    url = f"https://cdn.example/{KEY}/v.mp4"
    body = {"id": f"{KEY}-1", "status": "completed", "output": url}
    mock = MockProvider(httpx.Response(200, json=body))
    fact = await mock.vtrix().fetch(UpstreamId(f"{KEY}-1"))
    assert (fact.upstream_id, fact.output[0]["url"]) == (f"{KEY}-1", url)
    for text in (f"bad key {KEY}", "x" * 1990 + KEY, KEY * 400):
        with pytest.raises(BoomerangError) as caught:
            await MockProvider(httpx.Response(403, json={"error": text})).vtrix().create(provider_request())
        assert KEY[:8] not in str(caught.value)
        failed = await polled({"id": ID, "status": "failed", "error": text})
        assert failed.error is not None
        assert KEY[:8] not in failed.error.message
        with pytest.raises(ReplyLost) as lost:
            await MockProvider(httpx.Response(502, text=text)).vtrix().create(provider_request())
        assert KEY[:8] not in str(lost.value)
    word = await polled({"id": ID, "status": f"{KEY} warming"})
    assert word.word == "[key] warming"


QUOTED_KEY = "sk+ab/cd==ef&gh<ij>0123\"q'z"
QUOTES: list[Callable[[str], str]] = [
    lambda key: f"GET https://provider.example/?key={quote(key, safe='')}",
    lambda key: f"GET /{quote(key)}",
    lambda key: f"key={quote_plus(key)}",
    lambda key: f"the request was {json.dumps({'key': key})}",
    lambda key: "sent: " + json.dumps({"key": key}).replace("/", "\\/"),
    lambda key: f"key {html.escape(key)} is bad",
    lambda key: f"key {html.escape(key, quote=False)} is bad",
]


@pytest.mark.parametrize("quoted", QUOTES)
@pytest.mark.parametrize("page", [False, True])
async def test_quoted_key_is_masked(quoted: Callable[[str], str], page: bool) -> None:
    """A provider repeats the key as an address, JSON or HTML has it, in a message or a page; also where it is cut."""
    for text in (quoted(QUOTED_KEY), "x" * 4050 + quoted(QUOTED_KEY)):
        answer = httpx.Response(400, html=text) if page else httpx.Response(400, json={"message": text})
        vtrix = Vtrix(MockProvider(answer).transport, base_url="https://vtrix.test", key=QUOTED_KEY)
        with pytest.raises(Refused) as refused:
            await vtrix.create(provider_request())
        assert "0123" not in refused.value.message
        assert ("[key]" in refused.value.message) == (len(text) < 1000)
