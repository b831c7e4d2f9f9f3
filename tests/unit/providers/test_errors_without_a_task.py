"""Answers that report an error and name no task: the request may have failed, and the task runs on."""

from typing import Any

import pytest

from service.domain.errors import BoomerangError, ProviderUnavailable, Throttled, UnknownTask
from service.domain.task import Status, UpstreamId
from service.providers.callback_bodies import read_fact
from tests.support.fake_providers import MockProvider
from tests.unit.providers.test_create_replies import ID, response

ERRORS: list[tuple[dict[str, Any], type[BoomerangError]]] = [
    ({"status": "error", "message": "internal error"}, ProviderUnavailable),
    ({"status": "error", "code": 500, "message": "try again"}, ProviderUnavailable),
    ({"status": "failure", "data": None, "message": "no route"}, ProviderUnavailable),
    ({"status": "timeout"}, ProviderUnavailable),
    ({"status": "cancelled", "message": "the request was aborted"}, ProviderUnavailable),
    ({"status": "failed", "code": 503, "message": "try again"}, ProviderUnavailable),
    ({"status": "fail", "code": 429, "message": "slower"}, Throttled),
    ({"status": "error", "code": 404, "message": "no such task"}, UnknownTask),
]


@pytest.mark.parametrize(("body", "expected"), ERRORS, ids=range(len(ERRORS)))
@pytest.mark.parametrize("provider", ["vtrix", "vidu"])
async def test_poll_answered_with_an_error_settles_nothing(
    provider: str, body: dict[str, Any], expected: type[BoomerangError]
) -> None:
    """Such an answer, once, would fail a paid task for good: it is an unusable answer, and the next poll decides."""
    with pytest.raises(expected) as caught:
        await getattr(MockProvider(response(body)), provider)().fetch(UpstreamId(ID))
    assert type(caught.value) is expected


@pytest.mark.parametrize("body", [body for body, _ in ERRORS], ids=range(len(ERRORS)))
def test_callback_with_an_error_settles_nothing(body: dict[str, Any]) -> None:
    """The task is polled, as after a callback that cannot be read."""
    with pytest.raises(ProviderUnavailable):
        read_fact(body)


@pytest.mark.parametrize(
    "body",
    [
        {"status": "failed", "error": "no money"},
        {"id": ID, "status": "error", "message": "filtered"},
        {"data": {"task_id": ID, "status": "timeout"}, "code": 500},
    ],
    ids=["documented word", "with an id", "in an envelope"],
)
async def test_failure_of_the_task_is_read(body: dict[str, Any]) -> None:
    """The documented word needs no id, and an answer that names the task is about the task."""
    fact = await MockProvider(response(body)).vtrix().fetch(UpstreamId(ID))
    assert (fact.status, fact.upstream_id) == (Status.FAILED, ID)
