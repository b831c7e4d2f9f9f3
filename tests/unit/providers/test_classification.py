"""Classification of each response and of each missing response."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.domain.errors import (
    BoomerangError,
    Conflict,
    NotSent,
    ProviderUnavailable,
    Refused,
    ReplyLost,
    Throttled,
    UnknownTask,
)
from service.domain.task import Status, UpstreamId
from service.providers.bounded_request import retry_after
from tests.support.fake_providers import KEY, MockProvider, provider_request

ID = UpstreamId("d758n65e878c73cmdg20")


def vidu_error_response(status: int, reason: str) -> httpx.Response:
    """Return an error response in Vidu's own shape."""
    return httpx.Response(status, json={"code": status, "reason": reason, "message": f"{reason}!", "metadata": {}})


def html_page(status: int) -> httpx.Response:
    """Return an HTML page as a proxy writes it."""
    return httpx.Response(status, html="<html><body>Bad day</body></html>")


TRANSPORT = [
    (httpx.ConnectError("refused"), NotSent),
    (httpx.ConnectError("[Errno -2] Name or service not known"), NotSent),
    (httpx.ConnectTimeout("slow"), NotSent),
    (httpx.PoolTimeout("full"), NotSent),
    (httpx.ProxyError("no tunnel"), NotSent),
    (httpx.WriteTimeout("half sent"), ReplyLost),
    (httpx.WriteError("half sent"), ReplyLost),
    (httpx.ReadTimeout("no reply"), ReplyLost),
    (httpx.ReadError("reset"), ReplyLost),
    (httpx.RemoteProtocolError("disconnected"), ReplyLost),
    (httpx.LocalProtocolError("odd"), ReplyLost),
    (httpx.CloseError("odd"), ReplyLost),
    (httpx.DecodingError("odd"), ReplyLost),
    (TimeoutError(), ReplyLost),
    (ConnectionResetError(), ReplyLost),
]


@pytest.mark.parametrize(
    ("status", "body", "code", "names_task"),
    [
        (429, {"error": {"code": "insufficient_quota", "message": "check your plan"}}, "insufficient_quota", False),
        (500, {"error": {"code": "InsufficientBalance", "message": "no"}}, "InsufficientBalance", False),
        (402, {"error": {"code": "402", "message": "no"}, "request_id": "r1"}, "402", False),
        (402, {"error": {"message": "Insufficient Balance", "code": "invalid_request_error"}}, "402", False),
        (402, {"message": "the quota is used"}, "402", False),
        (403, {"code": "insufficient_user_quota", "message": "$0.10 left"}, "insufficient_user_quota", False),
        (429, {"error": {"type": "insufficient_quota", "code": None, "message": "x"}}, "insufficient_quota", False),
        (400, {"code": "Arrearage", "message": "Access denied"}, "Arrearage", False),
        (402, {"id": "t1", "error": {"code": "402", "message": "no"}}, "402", True),
    ],
)
async def test_code_for_an_empty_account_is_a_refusal(status: int, body: Any, code: str, names_task: bool) -> None:
    """It counts more than the HTTP status: neither does a throttle slow all requests, nor is each task tried again."""
    with pytest.raises(Refused) as caught:
        await MockProvider(lambda _: httpx.Response(status, json=body)).vtrix().create(provider_request())
    assert (caught.value.code, caught.value.names_task) == (code, names_task)


@pytest.mark.parametrize(("error", "expected"), TRANSPORT, ids=lambda value: repr(value)[:40])
async def test_only_errors_before_the_first_byte_are_not_sent(error: Exception, expected: type[BoomerangError]) -> None:
    """Errors before the first byte are NotSent; every other one leaves the submission in doubt."""
    with pytest.raises(expected):
        await MockProvider(error).vtrix().create(provider_request())


@pytest.mark.parametrize(("error", "_expected"), TRANSPORT, ids=lambda value: repr(value)[:40])
async def test_query_without_a_response_is_provider_unavailable(error: Exception, _expected: object) -> None:
    """A transport error of a poll or a cancel is ProviderUnavailable and says nothing about the task."""
    with pytest.raises(ProviderUnavailable):
        await MockProvider(error).vidu().fetch(ID)
    with pytest.raises(ProviderUnavailable):
        await MockProvider(error).vidu().cancel(ID)


VIDU_CREATE = [
    (vidu_error_response(429, "TooManyRequests"), Throttled),
    (vidu_error_response(429, "QuotaExceeded"), Throttled),
    (vidu_error_response(400, "QuotaExceeded"), Throttled),
    (vidu_error_response(400, "TooManyRequests"), Throttled),
    (vidu_error_response(400, "SystemThrottling"), Throttled),
    (vidu_error_response(400, "OperationInProcess"), Throttled),
    (httpx.Response(429), Throttled),
    (vidu_error_response(500, "InternalServiceFailure"), NotSent),
    (vidu_error_response(503, "ServiceUnavailable"), NotSent),
    (httpx.Response(500, json={"message": "Internal server error"}), ReplyLost),
    (html_page(500), ReplyLost),
    (httpx.Response(500), ReplyLost),
    (httpx.Response(500, json=[]), ReplyLost),
    (httpx.Response(500, json={"unheard": "of"}), ReplyLost),
    (html_page(503), ReplyLost),
    (vidu_error_response(502, "BadGateway"), ReplyLost),
    (html_page(502), ReplyLost),
    (vidu_error_response(504, "GatewayTimeout"), ReplyLost),
    (httpx.Response(408), ReplyLost),
    (httpx.Response(302, headers={"Location": "https://elsewhere.test/"}), ReplyLost),
    (vidu_error_response(400, "CreditInsufficient"), Refused),
    (vidu_error_response(400, "FieldUnwanted"), Refused),
    (vidu_error_response(401, "Unauthorized"), Refused),
    (vidu_error_response(403, "Forbidden"), Refused),
    (vidu_error_response(409, "Conflict"), Refused),
    (html_page(413), Refused),
    (httpx.Response(200), ReplyLost),
    (httpx.Response(200, content=b'{"task_id": "1'), ReplyLost),
    (html_page(200), ReplyLost),
    (httpx.Response(200, json={}), ReplyLost),
    (httpx.Response(200, json={"state": "created"}), ReplyLost),
]


@pytest.mark.parametrize(("answer", "expected"), VIDU_CREATE)
async def test_create_response_is_classified(answer: httpx.Response, expected: type[BoomerangError]) -> None:
    """Each row of the classification of a submission; it is sent once, and no redirect is followed."""
    provider = MockProvider(answer)
    with pytest.raises(expected):
        await provider.vidu().create(provider_request())
    assert len(provider.seen) == 1


FETCH = [
    (vidu_error_response(404, "TaskNotFound"), UnknownTask),
    (vidu_error_response(400, "TaskNotFound"), UnknownTask),
    (vidu_error_response(401, "Unauthorized"), Refused),
    (vidu_error_response(403, "Forbidden"), Refused),
    (vidu_error_response(429, "TooManyRequests"), Throttled),
    (vidu_error_response(400, "SystemThrottling"), Throttled),
    (vidu_error_response(400, "BadRequest"), ProviderUnavailable),
    (vidu_error_response(500, "InternalServiceFailure"), ProviderUnavailable),
    (html_page(502), ProviderUnavailable),
    (httpx.Response(302, headers={"Location": "https://elsewhere.test/"}), ProviderUnavailable),
    (html_page(200), ProviderUnavailable),
    (httpx.Response(200, json={"id": "d758n65e878c73cmdg20"}), ProviderUnavailable),
    (httpx.Response(200, json={"id": "another", "state": "success"}), ProviderUnavailable),
]


@pytest.mark.parametrize(("answer", "expected"), FETCH)
async def test_poll_response_is_classified(answer: httpx.Response, expected: type[BoomerangError]) -> None:
    """Each row of the classification of a poll."""
    with pytest.raises(expected):
        await MockProvider(answer).vidu().fetch(ID)


CANCEL = [
    (vidu_error_response(400, "BadRequest"), Conflict),
    (vidu_error_response(409, "Conflict"), Conflict),
    (vidu_error_response(404, "TaskNotFound"), UnknownTask),
    (vidu_error_response(429, "TooManyRequests"), Throttled),
    (html_page(500), ProviderUnavailable),
    (httpx.Response(302), ProviderUnavailable),
]


@pytest.mark.parametrize(("answer", "expected"), CANCEL)
async def test_cancel_response_is_classified(answer: httpx.Response, expected: type[BoomerangError]) -> None:
    """Each row of the classification of a cancel."""
    with pytest.raises(expected):
        await MockProvider(answer).vidu().cancel(ID)


VTRIX_REFUSALS: list[tuple[int, Any, str, str]] = [
    (401, {"message": "bad key"}, "401", "bad key"),
    (403, {"error": "no balance"}, "403", "no balance"),
    (403, {"error": {"code": "NoMoney", "message": "no balance"}, "request_id": "r"}, "NoMoney", "no balance"),
    (402, {"status": {"code": 402, "message": "pay", "error_code": 40201}, "data": None}, "40201", "pay"),
    (422, {"detail": "prompt is missing"}, "422", "prompt is missing"),
]


@pytest.mark.parametrize(("status", "body", "code", "message"), VTRIX_REFUSALS)
async def test_refusal_carries_the_providers_code_and_message(status: int, body: Any, code: str, message: str) -> None:
    """Every known error shape gives its own code and message; the HTTP status replaces a missing code."""
    with pytest.raises(Refused) as refused:
        await MockProvider(httpx.Response(status, json=body)).vtrix().create(provider_request())
    assert (refused.value.code, refused.value.message) == (code, message)


async def test_refusal_without_a_message_has_the_http_phrase() -> None:
    """An empty 403 becomes a readable refusal."""
    with pytest.raises(Refused, match="403: Forbidden"):
        await MockProvider(httpx.Response(403)).vtrix().create(provider_request())


async def test_failure_without_an_id_is_a_fact() -> None:
    """A failed reply without a task id fails the task; nothing is in doubt."""
    body = {"status": "failed", "error": {"code": 7, "error_message": "no"}}
    fact = await MockProvider(httpx.Response(200, json=body)).vtrix().create(provider_request())
    assert fact.status is Status.FAILED
    assert fact.upstream_id is None
    assert fact.error is not None
    assert (fact.error.code, fact.error.message) == ("7", "no")


async def test_oversized_response_is_cut() -> None:
    """A response over the limit is cut: in doubt for a submission, ProviderUnavailable for a poll."""
    flood = b" " * (33 * 1024 * 1024)
    with pytest.raises(ReplyLost, match="TooLarge"):
        await MockProvider(httpx.Response(200, content=flood)).vtrix().create(provider_request())
    with pytest.raises(ProviderUnavailable, match="TooLarge"):
        await MockProvider(httpx.Response(200, content=flood[: 17 * 1024 * 1024])).vtrix().fetch(ID)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 502])
async def test_echoed_key_is_redacted(status: int) -> None:
    """No error contains the key, even if the provider's response quotes it."""
    answer = httpx.Response(status, json={"message": f"key {KEY} is wrong"})
    with pytest.raises(BoomerangError) as caught:
        await MockProvider(answer).vtrix().create(provider_request())
    assert KEY not in repr(caught.value)
    assert KEY not in str(caught.value)


DATE = "Tue, 06 May 2025 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "99999999999999999999"}, 3600),
        ({"Retry-After": "Tue, 06 May 2025 12:00:30 GMT", "Date": DATE}, 30),
        ({"Retry-After": "Tue, 06 May 2025 11:00:30 GMT", "Date": DATE}, 0),
        ({"Retry-After": "Wed, 07 May 2025 12:00:30 GMT", "Date": DATE}, 3600),
        ({"Retry-After": "Tue, 06 May 2025 12:00:30 GMT"}, None),
        ({"Retry-After": "Tue, 06 May 2025 12:00:30", "Date": DATE}, None),
        ({"Retry-After": "soon", "Date": DATE}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "٣"}, None),
    ],
)
def test_retry_after_is_read_in_both_forms(headers: dict[str, str], expected: int | None) -> None:
    """Seconds and dates are read and limited to an hour; any other value is ignored."""
    assert retry_after(headers) == (None if expected is None else timedelta(seconds=expected))


async def test_throttle_carries_the_pause() -> None:
    """A 429 with Retry-After carries the pause."""
    with pytest.raises(Throttled) as throttled:
        await MockProvider(httpx.Response(429, headers={"Retry-After": "12"})).vtrix().fetch(ID)
    assert throttled.value.retry_after == timedelta(seconds=12)


@pytest.mark.parametrize("bad", ["..", ".", "", "a/../b", "../a", "x" * 513, "a\nb", "a b"])
async def test_id_that_would_change_the_path_is_not_requested(bad: str) -> None:
    """An invalid id cannot change the target of a request."""
    provider = MockProvider(httpx.Response(200))
    with pytest.raises(UnknownTask):
        await provider.vtrix().fetch(UpstreamId(bad))
    assert not provider.seen


@pytest.mark.parametrize(
    ("upstream_id", "segment"),
    [("task:7/1", "task%3A7%2F1"), ("a?b#c", "a%3Fb%23c"), ("%2e", "%252e"), ("é", "%C3%A9")],
)
async def test_id_is_percent_encoded_in_the_path(upstream_id: str, segment: str) -> None:
    """Every character of an id that means something in a path is encoded: it stays one segment."""
    provider = MockProvider(httpx.Response(200, json={"id": upstream_id, "status": "queued"}))
    await provider.vtrix().fetch(UpstreamId(upstream_id))
    assert provider.seen[0].url.raw_path == f"/model/v1/generation/task/{segment}".encode()


@pytest.mark.parametrize(
    ("status", "body", "of_key"),
    [
        (401, {"message": "no such key"}, True),
        (401, {"code": 401, "reason": "Unauthorized", "message": "bad"}, True),
        (403, {"message": "no permission"}, True),
        (403, {"error": {"code": "InsufficientBalance", "message": "no"}}, False),
        (403, {"message": "the prompt violates our policy"}, False),
        (400, {"message": "the prompt is too long"}, False),
        (200, {"code": 401, "message": "invalid token"}, True),
    ],
)
async def test_refusals_of_the_key_are_distinguished(status: int, body: dict[str, Any], of_key: bool) -> None:
    """A refused submission is one for the key unless it is for credit or content; a refused poll always is."""
    provider = MockProvider(httpx.Response(status, json=body)).vtrix()
    with pytest.raises(Refused) as refused:
        await provider.create(provider_request())
    assert refused.value.of_key is of_key
    if status in {401, 403}:
        with pytest.raises(Refused) as refused:
            await MockProvider(httpx.Response(status, json=body)).vtrix().fetch(ID)
        assert refused.value.of_key
