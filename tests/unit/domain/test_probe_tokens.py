"""Tokens of probes, and the answers that only a holder of the signing key can give."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import BadToken
from service.domain.key_ring import KeyRing
from service.domain.link_tokens import LinkTokens
from service.domain.probe_tokens import LIFETIME, ProbeTokens
from service.domain.task import TaskId
from service.domain.tokens import Tokens

NOW = datetime(2026, 5, 6, 12, tzinfo=UTC)
OWN, OTHER = "k" * 40, "o" * 40
NONCE = "a-nonce-of-24-characters"


def test_answer_proves_the_key() -> None:
    """A process with the key answers, and its answer fits this nonce alone."""
    asker, service = ProbeTokens([OWN]), ProbeTokens([OTHER, OWN])
    answer = service.answer(asker.token(NONCE, NOW), NOW)
    assert answer is not None
    assert asker.is_answer(answer, NONCE)
    assert not asker.is_answer(answer, NONCE.swapcase())
    assert not ProbeTokens([OTHER]).is_answer(answer, NONCE)


def test_process_without_the_key_gives_no_answer() -> None:
    """A probe of another installation is no probe here."""
    assert ProbeTokens([OTHER]).answer(ProbeTokens([OWN]).token(NONCE, NOW), NOW) is None


def test_the_key_that_signed_the_probe_signs_the_answer() -> None:
    """During a rotation the two processes have different newest keys."""
    keys = KeyRing([OTHER, OWN])
    answer = ProbeTokens(keys).answer(ProbeTokens([OWN]).token(NONCE, NOW), NOW)
    assert answer is not None
    assert ProbeTokens([OWN]).is_answer(answer, NONCE)


@pytest.mark.parametrize(("late", "answered"), [(LIFETIME, True), (LIFETIME + timedelta(seconds=1), False)])
def test_probes_expire(late: timedelta, answered: bool) -> None:
    """A recorded probe is not answered for ever, in either direction of the clock."""
    token = ProbeTokens([OWN]).token(NONCE, NOW)
    assert (ProbeTokens([OWN]).answer(token, NOW + late) is not None) is answered
    assert (ProbeTokens([OWN]).answer(token, NOW - late) is not None) is answered


def test_a_probe_is_no_other_token() -> None:
    """No kind of token is valid in place of another: a probe changes no task and opens no content."""
    probe = ProbeTokens([OWN])
    tokens, links = Tokens([OWN]), LinkTokens([OWN])
    token = probe.token(NONCE, NOW)
    with pytest.raises(BadToken):
        tokens.read_callback_token(token, NOW)
    with pytest.raises(BadToken):
        tokens.read_payload_token(token)
    with pytest.raises(BadToken):
        links.read(token, NOW)
    answer = probe.answer(token, NOW)
    assert answer is not None
    task = TaskId("0198c2")
    expires = NOW + timedelta(hours=1)
    others = [tokens.callback_token(task, 0, expires), tokens.payload_token(task, 0), links.token(task, expires)]
    for other in (answer, *others):
        assert probe.answer(other, NOW) is None
        assert other == answer or not probe.is_answer(other, NONCE)


@given(st.text(max_size=300))
def test_any_text_is_harmless(text: str) -> None:
    """What is no token has no answer, and is none."""
    probe = ProbeTokens([OWN])
    assert probe.answer(text, NOW) is None
    assert not probe.is_answer(text, NONCE)


@pytest.mark.parametrize("nonce", ["", "short", "a" * 65, "with~tilde-and-more-text", "with blank and more text"])
def test_odd_nonce_is_refused(nonce: str) -> None:
    """A nonce is one part of a path segment."""
    with pytest.raises(ValueError, match="nonce"):
        ProbeTokens([OWN]).token(nonce, NOW)
