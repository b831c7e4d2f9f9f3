"""What pages say: plain words for errors, values for people, addresses that lead nowhere else."""

from datetime import timedelta
from typing import get_args

import pytest

from service.dashboard import formats
from service.dashboard.advice import BY_KIND, advice
from service.dashboard.inputs import input_views
from service.dashboard.request_checks import own_path
from service.domain.error_kinds import ErrorKind
from service.domain.task import Status, TaskError
from tests.unit.api.fakes import NOW, a_task


def test_each_kind_of_error_has_advice() -> None:
    """Whatever the provider reports, a person reads what happened and what to do."""
    assert BY_KIND.keys() == set(get_args(ErrorKind))


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (Status.FAILED, TaskError(code="TaskPromptPolicyViolation", message="no"), "policy does not allow"),
        (Status.FAILED, TaskError(code="CreditInsufficient", message="no"), "no credit"),
        (Status.FAILED, TaskError(code="submission_unknown", message="lost"), "reply to the submission was lost"),
        (Status.IN_DOUBT, None, "may be working on it"),
        (Status.EXPIRED, None, "deadline"),
        (Status.COMPLETED, None, "sent no result"),
    ],
)
def test_advice(status: Status, error: TaskError | None, words: str) -> None:
    """The words follow from status and error; there is always something to do."""
    found = advice(a_task(status=status, error=error, submission=1))
    assert found is not None
    assert words in found.what
    assert found.todo


def test_no_advice_where_nothing_is_wrong() -> None:
    """A task with a result, and one that waits, need nobody."""
    assert advice(a_task(status=Status.COMPLETED, output=({"type": "video", "url": "u"},))) is None
    assert advice(a_task()) is None


@pytest.mark.parametrize(
    "address",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "",
        "/a\nb",
        "/\t/evil.example",
    ],
)
def test_no_redirect_leaves_the_service(address: str) -> None:
    """After signing in, only a path of this service is opened."""
    assert own_path(address) == "/"


@pytest.mark.parametrize("address", ["/", "/tasks?status=failed&q=a%20b", "/tasks/0198c2"])
def test_own_paths_stay(address: str) -> None:
    """The page that asked to sign in is opened, with its filters."""
    assert own_path(address) == address


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(milliseconds=120), "120 ms"),
        (timedelta(seconds=5), "5 s"),
        (timedelta(minutes=3, seconds=20), "3 min 20 s"),
        (timedelta(hours=2), "2 h"),
        (timedelta(days=1, seconds=5), "1 d"),
        (None, formats.NONE),
    ],
)
def test_durations(length: timedelta | None, text: str) -> None:
    """A duration has at most its two largest units."""
    assert formats.duration(length) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (3, "3 s ago"),
        (125, "2 min 5 s ago"),
        (-60, "in 1 min"),
        (-7140, "in 1 h 59 min"),
        (90_000, "1 d ago"),
    ],
)
def test_relative_times(seconds: int, text: str) -> None:
    """A time is read from now."""
    assert formats.ago(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0.35", "$0.35"), ("1", "$1.00"), (0.1234, "$0.1234"), (None, formats.NONE), ("x", formats.NONE)],
)
def test_amounts(amount: object, text: str) -> None:
    """A cost has two decimals at least, and keeps the digits of the provider."""
    assert formats.dollars(amount) == text


def test_foreign_inputs_are_no_pictures() -> None:
    """An address that a client gave is shown as text; a page loads nothing from elsewhere."""
    stored = {"media_type": "image/png", "bytes": 5, "sha256": "ab"}
    found = input_views({"prompt": "p", "images": ["https://evil.example/a.png", stored], "duration": 5}, {"images.1"})
    assert [(each.kind, each.place) for each in found.media] == [("address", "images.0"), ("image", "images.1")]
    assert found.plain == [("duration", 5)]


def test_inputs_within_subjects_are_shown() -> None:
    """Each with its place, under which it is stored; what a subject is called stands with the plain values."""
    stored = {"media_type": "image/png", "bytes": 5, "sha256": "ab"}
    found = input_views(
        {"subjects": [{"id": "cat", "images": [stored, "https://example.org/cat.png"]}], "cover": stored}, {"cover"}
    )
    assert [(each.kind, each.place) for each in found.media] == [
        ("image", "subjects.0.images.0"),
        ("address", "subjects.0.images.1"),
        ("image", "cover"),
    ]
    assert found.plain == [("subjects.0.id", "cat")]
