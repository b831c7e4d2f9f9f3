"""Replies to a submission: an id is never lost with its reply, and an error in a 200 is a refusal."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service.domain.errors import BoomerangError, NotSent, Refused, ReplyLost, Throttled
from service.domain.task import Status
from tests.support.fake_providers import MockProvider, provider_request

ID = "d758n65e878c73cmdg20"
LONG = "v" * 190


class Raw(httpx.AsyncByteStream):
    """A body as it comes from the network: it is neither decoded nor complete."""

    def __init__(self, content: bytes, error: Exception | None = None) -> None:
        self.content, self.error = content, error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content
        if self.error:
            raise self.error


def response(content: bytes | Any, status: int = 200, **headers: str) -> httpx.Response:
    """Return a response from the network, with a body of bytes or JSON."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return httpx.Response(status, stream=Raw(raw), headers={name.replace("_", "-"): headers[name] for name in headers})


WITH_ID: list[tuple[httpx.Response, str]] = [
    (response({"id": ID, "status": "submitted"}), ID),
    (response({"id": ID, "status": "warming_up"}), ID),
    (response({"id": ID}), ID),
    (response({"id": ID, "status": None, "error": None}), ID),
    (response({"task_id": ID}), ID),
    (response({"taskId": ID, "state": "NEW"}), ID),
    (response({"Task-ID": ID}), ID),
    (response({"id": 8823456, "status": "queued"}), "8823456"),
    (response({"id": 12345678901234567890}), "12345678901234567890"),
    (response({"id": LONG, "status": "queued"}), LONG),
    (response({"id": "task:7/1", "status": "queued"}), "task:7/1"),
    (response({"data": {"id": ID}}), ID),
    (response({"code": 0, "message": "success", "data": {"task_id": ID, "task_status": "PENDING"}}), ID),
    (response({"code": 200, "data": [{"id": ID}]}), ID),
    (response({"result": {"task": {"id": ID, "status": "queued"}}}), ID),
    (response({"request_id": "r-1", "output": {"task_id": ID, "task_status": "PENDING"}}), ID),
    (response({"id": "r-1", "status": "success", "data": {"id": ID, "status": "queued"}}), ID),
    (response({"id": "r-1", "data": {"task_id": ID}}), ID),
    (response({"id": ID, "data": {"id": "model-7"}}), ID),
    (response({"code": 0, "data": {"task_id": ID, "task_status": "QUEUED", "video_url": None}}), ID),
    (response({"code": 0, "data": {"id": ID, "status": "SUBMITTED", "content": {"video_url": ""}}}), ID),
    (response({"status": "success", "data": {"id": ID, "status": "queued", "url": ""}}), ID),
    (response({"code": 0, "data": {"id": ID, "url": "https://vtrix.test/task"}}), ID),
    (response({"code": 0, "data": ID}), ID),
    (response([{"id": ID}]), ID),
    (response({"id": ID, "error": {"code": 7, "message": "odd"}}), ID),
    (response(b"\xef\xbb\xbf" + json.dumps({"id": ID}).encode()), ID),
    (response(b'{"id": "%s", "seed": NaN, "cost": Infinity}' % ID.encode()), ID),
    (response(b'{"id": "%s", "id": null}' % ID.encode()), ID),
    (response(b'{"prompt": "\\ud83c", "id": "%s"}' % ID.encode()), ID),
    (response(b'{"id": "%s", "path": "C:\\video"}' % ID.encode()), ID),
    (response(b'{"id": "%s", "images": ["cut o' % ID.encode()), ID),
    (response({"images": ["A" * 6_000_000], "id": ID}), ID),
    (response({"id": ID}, Content_Encoding="utf-8"), ID),
    (response({"id": ID}, Content_Encoding="aws-chunked"), ID),
    (response({"id": ID}, Content_Encoding="gzip"), ID),
    (response({"id": ID}, Content_Encoding=""), ID),
    (response(gzip.compress(json.dumps({"id": ID}).encode()), Content_Encoding="gzip"), ID),
    (response(gzip.compress(json.dumps({"id": ID}).encode())), ID),
    (response(gzip.compress(json.dumps({"id": ID, "x": "y" * 200}).encode())[:-12], Content_Encoding="gzip"), ID),
    (response({"id": ID, "status": "queued"}, 500), ID),
    (response({"id": ID}, 502), ID),
    (response({"id": ID, "status": "error"}, 504), ID),
    (response({"id": ID}, 408), ID),
    (response({"id": ID, "status": "queued"}, 409), ID),
    (response(b"", 202, Location=f"/model/v1/generation/task/{ID}"), ID),
    (httpx.Response(200, stream=Raw(b'{"id": "%s", "status": "que' % ID.encode(), httpx.ReadError("cut"))), ID),
    (httpx.Response(200, stream=Raw(b'{"id": "%s"}' % ID.encode(), httpx.RemoteProtocolError("cut"))), ID),
]


@pytest.mark.parametrize(("reply", "upstream_id"), WITH_ID, ids=range(len(WITH_ID)))
@pytest.mark.parametrize("provider", ["vtrix", "vidu"])
async def test_id_is_read_by_any_reading(provider: str, reply: httpx.Response, upstream_id: str) -> None:
    """A reply that names the task's id is accepted: the task is polled, and not in doubt or submitted again."""
    mock = MockProvider(lambda _: httpx.Response(reply.status_code, stream=reply.stream, headers=reply.headers))
    fact = await getattr(mock, provider)().create(provider_request())
    assert (fact.upstream_id, fact.status) == (upstream_id, Status.IN_PROGRESS)


@pytest.mark.parametrize(
    "status", ["completed", "failed", "canceled"], ids=["a result", "a failure", "an end by the user"]
)
async def test_end_with_the_status_of_a_gateway_has_to_be_polled(status: str) -> None:
    """A 502 with an id and an end keeps the id alone: nothing that a gateway writes settles a task."""
    body = {"id": ID, "status": status, "output": [{"content": [{"url": "https://x.test/a.mp4"}]}]}
    fact = await MockProvider(lambda _: response(body, 502)).vtrix().create(provider_request())
    assert (fact.upstream_id, fact.status, fact.output) == (ID, Status.IN_PROGRESS, ())


WITHOUT_ID: list[tuple[httpx.Response, type[BoomerangError], str]] = [
    (response({"status": {"code": 402, "message": "Insufficient credits"}, "data": None}), Refused, "402: Insuff"),
    (response({"code": 402, "message": "Insufficient credits"}), Refused, "402: Insuff"),
    (response({"code": "InvalidParameter", "msg": "no such size"}), Refused, "InvalidParameter: no such"),
    (response({"error": {"code": "no_money", "message": "top up"}}), Refused, "no_money: top up"),
    (response({"error": "top up"}), Refused, "top up"),
    (response({"errors": [{"message": "a"}, "b"]}), Refused, "a; b"),
    (response({"success": False, "message": "top up"}), Refused, "top up"),
    (response({"success": "false", "code": 0, "message": "top up"}), Refused, "top up"),
    (response({"detail": [{"loc": ["x"], "msg": "too long"}]}), Refused, "too long"),
    (response({"code": 403, "data": {"message": "not allowed"}, "message": "no"}), Refused, "403: no"),
    (response({"code": 429, "message": "slower"}), Throttled, "slower"),
    (response({"code": 400, "reason": "OperationInProcess", "message": "wait"}), Throttled, "wait"),
    (response({"code": 502, "message": "no route"}), ReplyLost, "502: no route"),
    (response({"code": 500, "message": "failed"}), ReplyLost, "500: failed"),
    (response({"status": "timeout", "message": "too slow"}), ReplyLost, "too slow"),
    (response({"error": "timeout"}), ReplyLost, "timeout"),
    (response({"code": "InternalError", "message": "try again"}), ReplyLost, "try again"),
    (response({"error": {"code": "gateway_timeout", "message": "try again"}}), ReplyLost, "try again"),
    (response({"code": 10000, "message": "success", "data": {"job": "x"}}), ReplyLost, "names no task"),
    (response({"code": 10000, "msg": "OK", "success": False}), Refused, "10000"),
    (response({"status": "success"}), ReplyLost, "names no task"),
    (response({"code": 0, "message": "ok", "data": None}), ReplyLost, "names no task"),
    (response({"message": "hello"}), ReplyLost, "names no task: hello"),
    (response(b"<html>come back later</html>"), ReplyLost, "come back later"),
    (response(b'{"id": "d758n6'), ReplyLost, "names no task"),
    (response(b'{"id": 8823'), ReplyLost, "names no task"),
    (response({"id": "../../admin", "status": "queued"}), ReplyLost, "names no task"),
    (response({"id": "v" * 513}), ReplyLost, "names no task"),
    (response({"id": "", "status": "queued"}), ReplyLost, "names no task"),
    (response({"id": 0, "status": "queued"}), ReplyLost, "names no task"),
    (response({"id": "r-1", "error": "no"}, 400), Refused, "400: no"),
    (response({"id": "r-1", "status": "failed", "error": "no"}, 403), Refused, "no"),
    (response({"error": {"code": "Busy", "message": "later"}}, 500), NotSent, "later"),
    (httpx.Response(400, stream=Raw(b'{"error": "cut', httpx.ReadError("cut"))), ReplyLost, "ReadError"),
]


@pytest.mark.parametrize(("reply", "expected", "message"), WITHOUT_ID, ids=range(len(WITHOUT_ID)))
async def test_reply_without_an_id(reply: httpx.Response, expected: type[BoomerangError], message: str) -> None:
    """An error in a 200 is a refusal with the provider's own reason; what reports neither id nor error is in doubt."""
    mock = MockProvider(lambda _: httpx.Response(reply.status_code, stream=reply.stream, headers=reply.headers))
    shape = mock.vidu() if "OperationInProcess" in str(getattr(reply.stream, "content", b"")) else mock.vtrix()
    with pytest.raises(expected) as caught:
        await shape.create(provider_request())
    assert type(caught.value) is expected
    assert message in str(caught.value)


async def test_refusal_without_a_code_has_one_of_its_own() -> None:
    """The code of a refusal in a 200 is never the HTTP status of a success."""
    with pytest.raises(Refused) as refused:
        await MockProvider(response({"error": "top up"})).vtrix().create(provider_request())
    assert (refused.value.code, refused.value.message) == ("refused", "top up")
