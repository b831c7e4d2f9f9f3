"""Properties of the domain for every order of facts, every token and every body."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.domain import strict_json
from service.domain.callback import UnreadableCallback, read_callback
from service.domain.errors import BadToken, InvalidParams, ProviderUnavailable, UnreadableBody
from service.domain.notify import validate_notify
from service.domain.strict_json import parse_json
from service.domain.task import SETTLED, TRANSITIONS, Fact, Source, Status, Task, TaskId, UpstreamId, advance
from service.domain.tokens import TokenClaims, Tokens
from service.providers.callback_bodies import read_fact
from service.providers.vidu.bodies import vidu_error
from service.providers.vtrix.bodies import vtrix_error
from tests.support.no_egress_guard import any_address

NOW = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
TOKENS = Tokens(["new", "old"])

task_ids = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True).map(TaskId)
submissions = st.integers(0, 10**9 - 1)
moments = st.datetimes(datetime(1980, 1, 1), datetime(4000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive by Hypothesis's contract
facts = st.builds(
    Fact,
    status=st.sampled_from(Status),
    upstream_id=st.none() | st.sampled_from(["up1", "up2"]).map(UpstreamId),
    progress=st.none() | st.floats(0, 1),
    output=st.sampled_from([(), ({"type": "video", "url": "https://x.example/v.mp4"},)]),
    guessed=st.booleans(),
    unconfirmed=st.booleans(),
)
received = st.lists(st.tuples(facts, st.none() | st.sampled_from(Source)), max_size=25)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)


def _task() -> Task:
    return Task(
        id=TaskId("t"),
        client="c",
        provider="vtrix",
        model="m",
        bucket="b",
        created_at=NOW,
        deadline_at=NOW + timedelta(hours=2),
    )


def _history(received_facts: list[tuple[Fact, Source | None]]) -> list[tuple[Task, Fact | None]]:
    """Return every step of a task that receives `received_facts`, with the fact of each step."""
    steps: list[tuple[Task, Fact | None]] = [(_task(), None)]
    for fact, source in received_facts:
        step = advance(steps[-1][0], fact, NOW, source=source)
        if step is not None:
            steps.append((step.task, fact))
    return steps


# ── facts about a task ───────────────────────────────────────────────────────


@given(received)
def test_provider_ends_a_task_once(received_facts: list[tuple[Fact, Source | None]]) -> None:
    """For any order of facts, at most one final status of the provider is accepted, and it is the last step."""
    steps = _history(received_facts)
    ends = [place for place, (task, _) in enumerate(steps) if task.final]
    assert ends in ([], [len(steps) - 1])


@given(received)
def test_every_step_is_in_the_transition_table(received_facts: list[tuple[Fact, Source | None]]) -> None:
    """No order of facts makes a step that the table does not have."""
    steps = _history(received_facts)
    for (before, _), (after, _) in pairwise(steps):
        assert after.status in TRANSITIONS[before.status]


@given(received)
def test_progress_never_decreases(received_facts: list[tuple[Fact, Source | None]]) -> None:
    """Progress stays or grows with every step."""
    reached = [task.progress or 0.0 for task, _ in _history(received_facts)]
    assert reached == sorted(reached)


@given(received)
def test_own_conclusion_never_overrides_the_provider(received_facts: list[tuple[Fact, Source | None]]) -> None:
    """Once a task is in progress, our own conclusion can only be that it expires; an ended task takes none."""
    steps = _history(received_facts)
    for (before, _), (after, fact) in pairwise(steps):
        if fact and fact.guessed:
            assert not before.settled
            assert before.guessed or before.status is not Status.IN_PROGRESS or after.status not in SETTLED


@given(received, st.sampled_from(sorted(SETTLED)))
def test_final_status_of_the_provider_is_always_accepted(
    received_facts: list[tuple[Fact, Source | None]], end: Status
) -> None:
    """A task that the provider has not ended accepts its final status after any history."""
    task = _history(received_facts)[-1][0]
    step = advance(task, Fact(status=end), NOW, source=Source.POLL)
    assert (step is None) == task.final


@given(received)
def test_repeated_fact_changes_nothing(received_facts: list[tuple[Fact, Source | None]]) -> None:
    """A repeat of the provider's last report is no step and has no event."""
    task = _task()
    for fact, source in received_facts:
        honest = replace(fact, guessed=False)
        first = advance(task, honest, NOW, source=source)
        task = first.task if first else task
        assert advance(task, honest, NOW, source=source) is None


# ── tokens and bodies ────────────────────────────────────────────────────────


@given(task_ids, submissions, moments)
def test_tokens_decode_to_their_claims(task_id: TaskId, submission: int, expires: datetime) -> None:
    """Every task, submission and second in a token is decoded again."""
    whole = expires.replace(microsecond=0)
    claim = TOKENS.read_callback_token(TOKENS.callback_token(task_id, submission, whole), whole)
    assert claim == TokenClaims(task_id=task_id, submission=submission, expires=whole)
    assert TOKENS.read_payload_token(TOKENS.payload_token(task_id, submission)) == replace(claim, expires=None)


@given(task_ids, submissions, st.data())
def test_changed_token_is_refused(task_id: TaskId, submission: int, data: st.DataObject) -> None:
    """Any edit of any token, with any characters, is detected."""
    token = TOKENS.callback_token(task_id, submission, NOW)
    place = data.draw(st.integers(0, len(token)))
    edited = token[:place] + data.draw(st.text(max_size=3)) + token[place + data.draw(st.integers(0, 3)) :]
    if edited == token:
        return
    with pytest.raises(BadToken, match="forged"):
        TOKENS.read_callback_token(edited, NOW)


@given(st.text() | st.text(st.characters(categories=["Cs"]), min_size=1))
def test_any_text_as_a_token_raises_bad_token(text: str) -> None:
    """No text, broken characters included, raises anything but BadToken."""
    with pytest.raises(BadToken):
        TOKENS.read_payload_token(text)
    with pytest.raises(BadToken):
        TOKENS.read_callback_token(text, NOW)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
@example(b'{"id": "a", "status": "failed", "error": {"code": 1e308}}')
@example(b"[" * 5000)
def test_any_body_is_read_or_unreadable(raw: bytes) -> None:
    """Any bytes become a fact or raise UnreadableBody; error readers read anything."""
    claim = TOKENS.read_callback_token(TOKENS.callback_token(TaskId("t"), 1, NOW), NOW)
    with suppress(UnreadableCallback):
        assert read_callback(claim, {}, raw, NOW, tokens=TOKENS, read_fact=read_fact).task_id == "t"
    for text in (*vtrix_error(raw), *vidu_error(raw)):
        assert len(text) <= 2000
        assert not any(ord(character) < 32 for character in text)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.just("d758") | json_values,
            "task_id": json_values,
            "state": st.sampled_from(["success", "failed", "processing"]) | json_values,
            "status": st.sampled_from(["completed", "failed", "in_progress"]) | json_values,
            "progress": json_values,
            "output": st.lists(st.fixed_dictionaries({"content": json_values})) | json_values,
            "creations": json_values,
            "error": json_values,
            "err_code": json_values,
            "usage": st.fixed_dictionaries({"cost": json_values, "discount": json_values}) | json_values,
            "payload": json_values,
        },
    )
)
@settings(max_examples=300)
def test_any_fields_become_a_fact_or_an_unavailable_provider(body: dict[str, Any]) -> None:
    """Fields of any type become a valid fact, or raise ProviderUnavailable."""
    try:
        fact = read_fact(body)
    except ProviderUnavailable:
        return
    assert fact.progress is None or 0 <= fact.progress <= 1
    assert fact.settles or fact.upstream_id
    json.dumps(fact.output, allow_nan=False).encode()


@given(json_values)
def test_valid_json_is_read_unchanged(value: Any) -> None:
    """A value written by the standard encoder within the rules of JSON is read back equal."""
    try:
        raw = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return
    assert parse_json(raw) == value


@given(st.binary(max_size=200))
def test_json_is_read_or_refused(raw: bytes) -> None:
    """Any bytes are JSON or unreadable; no other error occurs."""
    with suppress(UnreadableBody):
        parse_json(raw)


@given(json_values | st.lists(st.fixed_dictionaries({"handler": st.just("webhook") | json_values, "url": json_values})))
def test_any_notify_is_accepted_or_refused(notify: Any) -> None:
    """Any JSON as `notify` is accepted, or refused with its faults."""
    with suppress(InvalidParams):
        assert list(validate_notify(notify, ["webhook"], any_address)) == (notify or [])


def _outcome(raw: bytes) -> object:
    try:
        return repr(parse_json(raw))
    except UnreadableBody as error:
        return str(error)


marks = st.sampled_from([b'"', b"[", b"]", b"{", b"}", b",", b":", b"\\", b"a", b"1", b" "])


@given(json_values.map(lambda value: json.dumps(value).encode()) | st.lists(marks, max_size=40).map(b"".join))
@example(b"[" * 70 + b"]" * 70)
@example(b'"' + b"[" * 70 + b'"')
def test_skipping_texts_in_the_count_changes_nothing(raw: bytes) -> None:
    """A body is read or refused alike, whether or not texts are skipped when its values are counted."""
    with patch.object(strict_json, "MAX_VALUES", 4), patch.object(strict_json, "MAX_DEPTH", 3):
        with patch.object(strict_json, "LONG_BODY", len(raw) + 1):
            counted_whole = _outcome(raw)
        with patch.object(strict_json, "LONG_BODY", 0), patch.object(strict_json, "FEW_STRINGS", 3):
            assert _outcome(raw) == counted_whole
