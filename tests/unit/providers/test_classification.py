"""What each answer, and each lack of one, is taken for."""

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
from service.providers.http_exchange import retry_after
from tests.support.fake_providers import KEY, MockProvider, provider_request

ID = UpstreamId("d758n65e878c73cmdg20")


def vidu_says(status: int, reason: str) -> httpx.Response:
    """Return an error in Vidu's own shape."""
    return httpx.Response(status, json={"code": status, "reason": reason, "message": f"{reason}!", "metadata": {}})


def html(status: int) -> httpx.Response:
    """Return the kind of page that a proxy writes."""
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


@pytest.mark.parametrize(("error", "expected"), TRANSPORT, ids=lambda value: repr(value)[:40])
async def test_a_submission_may_be_repeated_only_when_it_surely_never_left(
    error: Exception, expected: type[BoomerangError]
) -> None:
    """Errors before the first byte are NeverLeft, every other one leaves the submission in doubt."""
    with pytest.raises(expected):
        await MockProvider(error).vtrix().create(provider_request())


@pytest.mark.parametrize(("error", "_expected"), TRANSPORT, ids=lambda value: repr(value)[:40])
async def test_a_question_without_an_answer_tells_of_the_providers_health(error: Exception, _expected: object) -> None:
    """Whatever happens to a poll or a cancel on its way, it says nothing about the task."""
    with pytest.raises(ProviderUnavailable):
        await MockProvider(error).vidu().fetch(ID)
    with pytest.raises(ProviderUnavailable):
        await MockProvider(error).vidu().cancel(ID)


VIDU_CREATE = [
    (vidu_says(429, "TooManyRequests"), Throttled),
    (vidu_says(429, "QuotaExceeded"), Throttled),
    (vidu_says(400, "QuotaExceeded"), Throttled),
    (vidu_says(400, "TooManyRequests"), Throttled),
    (vidu_says(400, "SystemThrottling"), Throttled),
    (vidu_says(400, "OperationInProcess"), Throttled),
    (httpx.Response(429), Throttled),
    (vidu_says(500, "InternalServiceFailure"), NotSent),
    (vidu_says(503, "ServiceUnavailable"), NotSent),
    (httpx.Response(500, json={"message": "Internal server error"}), ReplyLost),
    (html(500), ReplyLost),
    (httpx.Response(500), ReplyLost),
    (httpx.Response(500, json=[]), ReplyLost),
    (httpx.Response(500, json={"unheard": "of"}), ReplyLost),
    (html(503), ReplyLost),
    (vidu_says(502, "BadGateway"), ReplyLost),
    (html(502), ReplyLost),
    (vidu_says(504, "GatewayTimeout"), ReplyLost),
    (httpx.Response(408), ReplyLost),
    (httpx.Response(302, headers={"Location": "https://elsewhere.test/"}), ReplyLost),
    (vidu_says(400, "CreditInsufficient"), Refused),
    (vidu_says(400, "FieldUnwanted"), Refused),
    (vidu_says(401, "Unauthorized"), Refused),
    (vidu_says(403, "Forbidden"), Refused),
    (vidu_says(409, "Conflict"), Refused),
    (html(413), Refused),
    (httpx.Response(200), ReplyLost),
    (httpx.Response(200, content=b'{"task_id": "1", "sta'), ReplyLost),
    (html(200), ReplyLost),
    (httpx.Response(200, json={}), ReplyLost),
    (httpx.Response(200, json={"state": "created"}), ReplyLost),
    (httpx.Response(200, json={"task_id": "1", "state": "warming_up"}), ReplyLost),
]


@pytest.mark.parametrize(("answer", "expected"), VIDU_CREATE)
async def test_an_answer_to_a_submission_is_taken_for_what_it_says(
    answer: httpx.Response, expected: type[BoomerangError]
) -> None:
    """Each row of the classification, for a submission; it is sent once, and no redirect is followed."""
    provider = MockProvider(answer)
    with pytest.raises(expected):
        await provider.vidu().create(provider_request())
    assert len(provider.seen) == 1


FETCH = [
    (vidu_says(404, "TaskNotFound"), UnknownTask),
    (vidu_says(400, "TaskNotFound"), UnknownTask),
    (vidu_says(401, "Unauthorized"), Refused),
    (vidu_says(403, "Forbidden"), Refused),
    (vidu_says(429, "TooManyRequests"), Throttled),
    (vidu_says(400, "SystemThrottling"), Throttled),
    (vidu_says(400, "BadRequest"), ProviderUnavailable),
    (vidu_says(500, "InternalServiceFailure"), ProviderUnavailable),
    (html(502), ProviderUnavailable),
    (httpx.Response(302, headers={"Location": "https://elsewhere.test/"}), ProviderUnavailable),
    (html(200), ProviderUnavailable),
    (httpx.Response(200, json={"id": "d758n65e878c73cmdg20", "state": "warming_up"}), ProviderUnavailable),
    (httpx.Response(200, json={"id": "another", "state": "success"}), ProviderUnavailable),
]


@pytest.mark.parametrize(("answer", "expected"), FETCH)
async def test_an_answer_to_a_poll_is_taken_for_what_it_says(
    answer: httpx.Response, expected: type[BoomerangError]
) -> None:
    """Each row of the classification, for a poll."""
    with pytest.raises(expected):
        await MockProvider(answer).vidu().fetch(ID)


CANCEL = [
    (vidu_says(400, "BadRequest"), Conflict),
    (vidu_says(409, "Conflict"), Conflict),
    (vidu_says(404, "TaskNotFound"), UnknownTask),
    (vidu_says(429, "TooManyRequests"), Throttled),
    (html(500), ProviderUnavailable),
    (httpx.Response(302), ProviderUnavailable),
]


@pytest.mark.parametrize(("answer", "expected"), CANCEL)
async def test_an_answer_to_a_cancel_is_taken_for_what_it_says(
    answer: httpx.Response, expected: type[BoomerangError]
) -> None:
    """Each row of the classification, for a cancel."""
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
async def test_a_refusal_carries_the_providers_code_and_words(status: int, body: Any, code: str, message: str) -> None:
    """Every error shape that was seen gives its own code and words; the HTTP status stands in for a missing code."""
    with pytest.raises(Refused) as refused:
        await MockProvider(httpx.Response(status, json=body)).vtrix().create(provider_request())
    assert (refused.value.code, refused.value.message) == (code, message)


async def test_a_refusal_without_words_is_still_named() -> None:
    """An empty 403 becomes a refusal that a person can read."""
    with pytest.raises(Refused, match="403: Forbidden"):
        await MockProvider(httpx.Response(403)).vtrix().create(provider_request())


async def test_a_failure_without_an_id_is_a_fact() -> None:
    """A reply that says failed and names no task fails the task; nothing is in doubt."""
    body = {"status": "failed", "error": {"code": 7, "error_message": "no"}}
    fact = await MockProvider(httpx.Response(200, json=body)).vtrix().create(provider_request())
    assert fact.status is Status.FAILED
    assert fact.upstream_id is None
    assert fact.error is not None
    assert (fact.error.code, fact.error.message) == ("7", "no")


async def test_an_answer_that_does_not_end_is_not_read_to_the_end() -> None:
    """An answer over the cap is cut: in doubt for a submission, the provider's health for a poll."""
    flood = b" " * (33 * 1024 * 1024)
    with pytest.raises(ReplyLost, match="TooLarge"):
        await MockProvider(httpx.Response(200, content=flood)).vtrix().create(provider_request())
    with pytest.raises(ProviderUnavailable, match="TooLarge"):
        await MockProvider(httpx.Response(200, content=flood[: 5 * 1024 * 1024])).vtrix().fetch(ID)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 502])
async def test_a_key_that_the_provider_repeats_is_taken_out(status: int) -> None:
    """No error shows the key, even when the provider writes it back to us."""
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
    """Seconds and dates are understood and bounded to an hour; anything else is as if it were not there."""
    assert retry_after(headers) == (None if expected is None else timedelta(seconds=expected))


async def test_a_throttle_carries_the_pause() -> None:
    """A 429 with Retry-After hands it on."""
    with pytest.raises(Throttled) as throttled:
        await MockProvider(httpx.Response(429, headers={"Retry-After": "12"})).vtrix().fetch(ID)
    assert throttled.value.retry_after == timedelta(seconds=12)


@pytest.mark.parametrize("bad", ["..", "", "a/b", "a?b", "x" * 200, "%2e%2e"])
async def test_an_id_that_would_change_the_path_is_not_asked_for(bad: str) -> None:
    """An id from outside cannot lead the request elsewhere."""
    provider = MockProvider(httpx.Response(200))
    with pytest.raises(UnknownTask):
        await provider.vtrix().fetch(UpstreamId(bad))
    assert not provider.seen
