"""Facts in every shape of a Vidu body."""

from typing import Any

import pytest

from service.domain.errors import ProviderUnavailable
from service.domain.task import Fact, Status, TaskError, UpstreamId, Usage
from service.providers.vidu.bodies import read_vidu, vidu_error

URL = "https://cdn.example/v.mp4"


def body(state: str, **more: Any) -> dict[str, Any]:
    """Return a query or callback body."""
    return {"id": "8823456", "state": state, "err_code": "", "credits": 12, "payload": "ours", **more}


def test_create_reply_is_read() -> None:
    """A create reply names the task `task_id` and repeats the payload."""
    reply = {"task_id": "8823456", "state": "created", "model": "viduq2-pro", "payload": "ours", "images": ["x"]}
    assert read_vidu(reply) == Fact(status=Status.IN_PROGRESS, upstream_id=UpstreamId("8823456"), correlation="ours")


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("created", Status.IN_PROGRESS),
        ("queueing", Status.IN_PROGRESS),
        ("processing", Status.IN_PROGRESS),
        ("success", Status.COMPLETED),
        ("failed", Status.FAILED),
    ],
)
def test_each_state_has_a_status(state: str, status: Status) -> None:
    """Every documented state maps to a status, and the id is also read from `id`."""
    fact = read_vidu(body(state))
    assert (fact.status, fact.upstream_id) == (status, "8823456")


def test_results_have_the_existing_addresses() -> None:
    """A creation gives its video, and its cover and watermarked copy if they exist."""
    full = {"id": "c1", "url": URL, "cover_url": "https://cdn.example/c.png", "watermarked_url": URL + "?wm"}
    fact = read_vidu(body("success", creations=[full, {"url": URL, "cover_url": "", "watermarked_url": None}]))
    assert fact.output == (
        {"type": "video", "url": URL, "cover_url": "https://cdn.example/c.png", "watermarked_url": URL + "?wm"},
        {"type": "video", "url": URL},
    )


@pytest.mark.parametrize("creations", [{}, ["x"], [{}], [{"url": "javascript:alert(1)"}], None])
def test_creation_without_an_address_is_no_result(creations: object) -> None:
    """Creations without an http address are left out."""
    assert read_vidu(body("success", creations=creations)).without_result


def test_echoed_inputs_are_no_results() -> None:
    """The inputs that a create reply repeats are not taken for results."""
    reply = {"task_id": "8", "state": "success", "images": [URL], "videos": [URL]}
    assert read_vidu(reply).without_result


def test_credits_are_usage_without_a_price() -> None:
    """Credits are usage without a price in dollars."""
    assert read_vidu(body("success")).usage == Usage(cost=None, discount=None)
    assert read_vidu({"id": "8", "state": "success"}).usage is None


@pytest.mark.parametrize(("value", "amount"), [(12, 12.0), ("12", 12.0), (0, 0.0), (None, None)])
def test_credits_are_read(value: object, amount: float | None) -> None:
    """The fact has the credits, from which CREDIT_PRICE makes dollars; a failed task may name them too."""
    for state in ("created", "success", "failed"):
        fact = read_vidu(body(state, credits=value))
        assert (fact.credits, fact.faulty_cost) == (amount, False)


@pytest.mark.parametrize("value", [-1, "many", "1e999", True, [1]])
def test_faulty_credits_are_marked(value: object) -> None:
    """Credits that are no amount are not a cost, and the fact says so."""
    fact = read_vidu(body("success", credits=value))
    assert (fact.credits, fact.faulty_cost) == (None, True)


def test_failure_has_its_error_code() -> None:
    """The error code is the reason."""
    failed = read_vidu(body("failed", err_code="CreationPolicyViolation"))
    assert failed.error == TaskError(code="CreationPolicyViolation", message="CreationPolicyViolation")
    assert read_vidu(body("failed")).error == TaskError(code="failed", message="the upstream gave no reason")


def test_canceled_task_is_canceled_and_not_failed() -> None:
    """Vidu reports a task that its user canceled as failed; its status here is canceled, without an error."""
    fact = read_vidu(body("failed", err_code="UserCancelled"))
    assert (fact.status, fact.error) == (Status.CANCELED, None)


@pytest.mark.parametrize(
    "invalid",
    [
        None,
        [],
        {},
        {"id": "8"},
        {"state": "processing"},
        {"id": "8", "state": 1},
        {"id": "8/../9", "state": "processing"},
        {"code": 400, "reason": "BadRequest", "message": "x"},
    ],
    ids=lambda invalid: repr(invalid)[:60],
)
def test_any_other_body_is_provider_unavailable(invalid: object) -> None:
    """An unreadable body says nothing about the task."""
    with pytest.raises(ProviderUnavailable):
        read_vidu(invalid)


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        (
            b'{"code": 400, "reason": "CreditInsufficient", "message": "top up", "metadata": {"trace_id": "t"}}',
            ("CreditInsufficient", "top up"),
        ),
        (b'{"code": 429, "message": "slow"}', ("429", "slow")),
        (b'{"message": "slow"}', ("", "slow")),
        (b"<html><title>503</title></html>", ("", "503")),
        (b"", ("", "")),
        (b"{", ("", "{")),
        ({"reason": 7}, ("7", "")),
    ],
)
def test_every_error_response_is_read(raw: object, read: tuple[str, str]) -> None:
    """Reason and message are read from every shape of an error response, including HTML and empty ones."""
    assert vidu_error(raw) == read
