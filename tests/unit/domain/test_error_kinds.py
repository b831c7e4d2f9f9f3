"""The kind of an error: by the provider's code, and by words where the code says little."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.error_kinds import error_kind, is_credit_refusal, task_error, with_error_kind
from service.domain.task import Status, Task, TaskError, TaskId
from service.domain.task_view import TaskView, task_json

NOW = datetime(2026, 5, 6, 12, tzinfo=UTC)
TASK = Task(
    id=TaskId("t1"),
    client="ann",
    provider="vidu",
    model="m",
    bucket="b",
    created_at=NOW,
    deadline_at=NOW + timedelta(hours=2),
)

VIDU = [
    ("AuditSubmitIllegal", "content"),
    ("TaskPromptPolicyViolation", "content"),
    ("CreationPolicyViolation", "content"),
    ("BadRequest", "input"),
    ("FieldLacking", "input"),
    ("FieldUnwanted", "input"),
    ("FieldInvalid", "input"),
    ("FieldItemCountOutOfRange", "input"),
    ("ImageDownloadFailure", "input"),
    ("ImageFormatInvalid", "input"),
    ("413", "input"),
    ("CreditInsufficient", "credit"),
    ("ModelUnavailable", "provider"),
    ("InternalServiceFailure", "provider"),
    ("Unauthorized", "provider"),
    ("Forbidden", "provider"),
    ("Conflict", "provider"),
    ("QuotaExceeded", "provider"),
]


@pytest.mark.parametrize(("code", "kind"), VIDU)
def test_documented_codes_of_vidu(code: str, kind: str) -> None:
    """Each code of the provider's documentation has its kind, also when Vtrix passes it on."""
    error = TaskError(code=code, message=code)
    assert (error_kind("vidu", error), error_kind("vtrix", error)) == (kind, kind)


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("402", "payment required", "credit"),
        ("40201", "no", "credit"),
        ("40208", "no", "credit"),
        ("403", "Insufficient balance, please top up", "credit"),
        ("403", "permission denied", "provider"),
        ("401", "invalid api key", "provider"),
        ("403", "invalid permission", "provider"),
        ("500", "a parameter is missing inside", "provider"),
        ("400", "prompt is required", "input"),
        ("400", "the prompt violates our content policy", "content"),
        ("422", "no", "input"),
        ("451", "no", "content"),
        ("408", "no", "timeout"),
        ("504", "no", "timeout"),
        ("500", "no", "provider"),
        ("002014001", "video generation failed", "provider"),
        ("002014001", "output was blocked by moderation", "content"),
        ("failed", "NSFW content detected", "content"),
        ("failed", "the upstream gave no reason", "unknown"),
        ("failed", "image download timed out", "input"),
        ("TIMEOUT", "the upstream reports the status TIMEOUT", "timeout"),
        ("content_policy_violation", "", "content"),
        ("insufficient_quota", "You exceeded your current quota", "credit"),
        ("InsufficientBalance", "x", "credit"),
        ("E-77", "账户余额不足", "credit"),
        ("E-77", "never seen", "unknown"),
        ("submission_unknown", "the reply to the submission was lost", "unknown"),
        ("inputs_gone", "images.0 is not stored any more", "input"),
        ("no_result", "the upstream gave no reason", "provider"),
        ("no_result", "filtered by safety settings", "content"),
        ("403", "User is locked. Reason: Exhausted balance.", "credit"),
        ("403", "Insufficient credits. A credit balance > 0 is required for file uploads", "credit"),
        ("400", "Budget has been exceeded", "credit"),
        ("400", "You do not have enough credits to run this task.", "credit"),
        ("E9", "You lack sufficient credits to make this request", "credit"),
        ("403", "预扣费额度失败, 用户剩余额度: 0.10", "credit"),
        ("OutputVideoSensitiveContentDetected", "the output video may contain sensitive information", "content"),
        ("3", "The prompt could not be submitted: it violates our usage guidelines", "content"),
        ("E1", "the casino credits roll", "unknown"),
    ],
)
def test_codes_and_words_of_the_gateway(code: str, message: str, kind: str) -> None:
    """A code that says little leaves it to the words, and an unknown one to both."""
    assert error_kind("vtrix", TaskError(code=code, message=message)) == kind


def test_words_of_the_caller_are_no_credit_refusal() -> None:
    """A message that repeats the caller's words says nothing about the account; a code does."""
    error, own = TaskError(code="400", message="bad prompt: 'insufficient credit'"), '["insufficient credit"]'
    assert is_credit_refusal("vtrix", error, "[]")
    assert not is_credit_refusal("vtrix", error, own)
    assert is_credit_refusal("vtrix", TaskError(code="402", message="insufficient credit"), own)


def test_failed_task_shows_its_kind() -> None:
    """The API's task object has the kind first, with the code and the message of the provider."""
    task = replace(TASK, status=Status.FAILED, error=TaskError(code="CreditInsufficient", message="top up"))
    assert task_json(task)["error"] == {"kind": "credit", "code": "CreditInsufficient", "message": "top up"}


@pytest.mark.parametrize(("submission", "where"), [(0, "while the task waited to be submitted"), (1, "later result")])
def test_expired_task_has_a_timeout(submission: int, where: str) -> None:
    """An expired task says that the time was up, and whether it was submitted at all; nothing of that is stored."""
    error = task_error(replace(TASK, status=Status.EXPIRED, submission=submission))
    assert error is not None
    assert (error["kind"], error["code"]) == ("timeout", "deadline_passed")
    assert where in error["message"]


def test_error_of_an_earlier_release_gets_its_kind_when_read() -> None:
    """Events that the previous release stored have no kind: handlers and histories get it computed."""
    stored = task_json(TASK) | {"error": {"code": "AuditSubmitIllegal", "message": "no"}}
    assert TaskView.from_json(stored).error == {"kind": "content", "code": "AuditSubmitIllegal", "message": "no"}
    assert with_error_kind({"error": None}) == {"error": None}
