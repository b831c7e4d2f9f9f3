"""How the end of an attempt is classified."""

import asyncio
import socket
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.deliveries.attempt_outcome import (
    MAX_DELAY,
    AttemptContext,
    classify_attempt,
    event_of,
    responsible_party,
)
from service.deliveries.error_text import MAX_ERROR_TEXT, describe_error
from service.domain.artifact import Artifact
from service.domain.delivery_errors import UNREACHABLE, error_for_client, with_reason_of_end
from service.domain.errors import ProviderUnavailable, Reject, Retry, StoreUnavailable
from service.domain.ports.queues import AttemptResult
from service.domain.task import EventType
from tests.support.delivery_builders import NOW, SCHEDULE, claim_for, view

REQUEST = httpx.Request("GET", "https://ada:pw@files.example/video.mp4?sig=hidden")


def context(**changes: Any) -> AttemptContext:
    """Return the first of three attempts."""
    defaults: dict[str, Any] = {"attempt": 1, "limit": 3, "schedule": SCHEDULE, "now": NOW, "jitter": 0.0}
    return AttemptContext(**(defaults | changes))


def _status_error(status: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError("no", request=REQUEST, response=httpx.Response(status, request=REQUEST))


def test_no_error_is_delivered() -> None:
    """An attempt that ends without an error is delivered, and no other attempt is due."""
    result = classify_attempt(None, context())
    assert (result.outcome, result.due_at, result.error, result.fault) == ("delivered", None, None, None)


@pytest.mark.parametrize(("attempt", "delay"), [(1, 5), (2, 30)])
def test_failure_is_due_after_the_delay_of_the_schedule(attempt: int, delay: int) -> None:
    """The delay before attempt k + 1 is entry k of the schedule."""
    result = classify_attempt(ValueError("x"), context(attempt=attempt))
    assert (result.outcome, result.due_at) == ("retry", NOW + timedelta(seconds=delay))


@pytest.mark.parametrize("error", [ValueError("x"), Retry("later"), Retry("later", after=5)])
def test_last_attempt_is_dead(error: Exception) -> None:
    """After the last attempt no error leads to another one, not even a Retry."""
    result = classify_attempt(error, context(attempt=3))
    assert (result.outcome, result.due_at) == ("dead", None)


@pytest.mark.parametrize(
    ("after", "delay"),
    [(timedelta(minutes=7), timedelta(minutes=7)), (-5, timedelta()), (timedelta(days=999_999), MAX_DELAY)],
)
def test_retry_after_is_bounded(after: timedelta | float, delay: timedelta) -> None:
    """A handler's own delay counts, never into the past and at most 30 days."""
    assert classify_attempt(Retry(after=after), context()).due_at == NOW + delay


def test_retry_without_a_delay_follows_the_schedule() -> None:
    """Retry without `after` is due as any failure is."""
    assert classify_attempt(Retry("later"), context()).due_at == NOW + timedelta(seconds=5)


def test_reject_inside_a_group_decides() -> None:
    """A handler that works in a task group may reject from within it."""
    group = ExceptionGroup("both", [ValueError("x"), ExceptionGroup("inner", [Reject("never")])])
    result = classify_attempt(group, context())
    assert (result.outcome, result.error) == ("dead", "Reject: never")


@pytest.mark.parametrize(
    "error",
    [
        Reject("no"),
        Retry("later"),
        _status_error(404),
        _status_error(500),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.TooManyRedirects("loop"),
        httpx.InvalidURL("no"),
        TimeoutError("slow"),
        ConnectionResetError("reset"),
        socket.gaierror("no such host"),
        ProviderUnavailable("HTML"),
    ],
)
def test_destination_is_responsible(error: Exception) -> None:
    """The destination is responsible for errors, failures and silence of the other end."""
    assert responsible_party(error) == "destination"


@pytest.mark.parametrize(
    "error",
    [TypeError("x"), KeyError("x"), AssertionError(), OSError(28, "no space"), StoreUnavailable("x"), SystemExit(1)],
)
def test_installation_is_responsible(error: BaseException) -> None:
    """Bugs, a full disk and an unavailable database are our own faults."""
    assert responsible_party(error) == "ours"


def test_retry_with_an_invalid_delay_is_the_handlers_error() -> None:
    """The text of a header is rejected at once, so that the attempt counts as any that fails."""
    with pytest.raises(TypeError, match="takes seconds or a timedelta, not str"):
        Retry("busy", after="30")  # type: ignore[arg-type] # the mistake that is meant


def test_error_text_is_one_bounded_line() -> None:
    """Line breaks and control characters are removed, and the length is limited."""
    text = describe_error(ValueError("a\nb\x1b[31m\x00c\u202e" + "d" * 2000))
    assert text.startswith("ValueError: a b [31m c d")
    assert len(text) == MAX_ERROR_TEXT


@pytest.mark.parametrize(
    "message",
    [
        "for url 'https://ada:hidden@files.example/video'",
        "for url 'https://files.example/video?X-Signature=hidden'",
        "for url https://files.example/video?sig=hidden and more",
        "secret whsec_hidden",
        "Authorization: Bearer hidden",
        "the entry's own: hidden",
    ],
)
def test_error_text_has_no_secrets(message: str) -> None:
    """Credentials, query strings and secrets are removed from an error's text, and the rest stays."""
    text = describe_error(ValueError(message), secrets=["hidden"] if "own" in message else [])
    assert "hidden" not in text
    assert text.startswith("ValueError: ")


def test_error_without_a_message_is_its_class() -> None:
    """An error without a message is described by its class."""
    assert describe_error(asyncio.CancelledError()) == "CancelledError"


class Undescribable(Exception):
    """An error that fails to describe itself."""

    def __str__(self) -> str:
        """Fail."""
        raise KeyError("no message")


def test_error_that_cannot_describe_itself_is_classified() -> None:
    """A handler's error whose text cannot be made is a failed attempt like any other."""
    result = classify_attempt(Undescribable(), context())
    assert (result.outcome, result.error) == ("retry", "Undescribable: (message not available)")


def test_event_has_its_artifact() -> None:
    """The event that a result was stored contains the artifact."""
    artifact = Artifact(url="u", archived_url="file:///a", media_type="video/mp4", bytes=3, sha256="00")
    claim = claim_for("sample")
    claim.event.data["artifact"] = asdict(artifact) | {"of_a_newer_version": 1}
    event = event_of(claim)
    assert event.artifact == artifact
    assert (event.task, event.type, event.client) == (view(), EventType.COMPLETED, claim.event.client)
    assert event.client


def test_artifact_of_an_event_names_its_output() -> None:
    """The position follows from the output of the task, where the stored address is."""
    artifact = Artifact(url="u", archived_url="file:///a", media_type="video/mp4", bytes=3, sha256="00")
    claim = claim_for("sample")
    claim.event.data["artifact"] = {name: value for name, value in asdict(artifact).items() if name != "output"}
    claim.event.data["output"] = [{"url": "other"}, {"url": "u", "archived_url": "file:///a"}]
    event = event_of(claim)
    assert event.artifact is not None
    assert event.artifact.output == 1


@pytest.mark.parametrize(
    ("error", "attempt", "limit", "expected"),
    [
        (
            ConnectionResetError("reset"),
            3,
            3,
            "ConnectionResetError: reset (not tried again: 3 attempts failed, {schedule})",
        ),
        (Retry("busy"), 1, 1, "Retry: busy (not tried again: 1 attempt failed, as many as the handler allows)"),
        (Reject("no video"), 1, 3, "Reject: no video (not tried again: the handler rejected it)"),
    ],
)
def test_dead_letter_has_the_reason_of_its_end(error: Exception, attempt: int, limit: int, expected: str) -> None:
    """The last error alone, like `Retry: busy`, would name the wrong reason."""
    found = classify_attempt(error, context(attempt=attempt, limit=limit))
    result = AttemptResult(
        delivery_id="d1",
        fence=1,
        attempt=attempt,
        started_at=NOW,
        finished_at=NOW,
        outcome=found.outcome,
        error=found.error,
        end_reason=found.end_reason,
    )
    assert result.last_error == expected.format(schedule="as many as RETRY_SCHEDULE has")
    assert result.error == describe_error(error)


def test_long_error_keeps_the_reason_of_the_end() -> None:
    """A dead letter's text is as bounded as any error, and the client sees the reason too."""
    text = with_reason_of_end("ValueError: " + "x" * 600, "the handler rejected it")
    assert len(text) == MAX_ERROR_TEXT
    assert text.endswith(" (not tried again: the handler rejected it)")
    assert error_for_client(text, requested=False) == "ValueError (not tried again: the handler rejected it)"
    assert error_for_client(f"{UNREACHABLE}: ConnectError", requested=True) == UNREACHABLE
