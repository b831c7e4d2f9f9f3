"""Correlation tokens: who can create them, how long they are valid, and that no other spelling is accepted."""

import hashlib
import re
from datetime import UTC, datetime, timedelta

import pytest
from itsdangerous import Signer

from service.domain.errors import BadSetting, BadToken
from service.domain.key_ring import KeyRing, fingerprint
from service.domain.task import TaskId
from service.domain.tokens import CALLBACK_SALT, PAYLOAD_SALT, TokenClaims, Tokens, names_submission

NOW = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
TASK = TaskId("0198c2f4-7d1e-7c3a-9b1e-5d2f6a7b8c9d")
UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
OTHERS = UNRESERVED + "=+/ %\n\x00é"
TOKENS = Tokens(["new-key", "old-key"])


def test_callback_token_has_its_claims() -> None:
    """Task, submission and expiry are read from the address token."""
    token = TOKENS.callback_token(TASK, 3, NOW + HOUR)
    assert TOKENS.read_callback_token(token, NOW) == TokenClaims(task_id=TASK, submission=3, expires=NOW + HOUR)


def test_payload_token_has_its_claims_and_no_expiry() -> None:
    """Task and submission are read from the payload token, which does not expire."""
    assert TOKENS.read_payload_token(TOKENS.payload_token(TASK, 3)) == TokenClaims(
        task_id=TASK, submission=3, expires=None
    )


def test_tokens_are_one_short_path_segment() -> None:
    """A token has unreserved characters only, so that no proxy rewrites it, and is short."""
    for token in (TOKENS.callback_token(TASK, 1, NOW), TOKENS.payload_token(TASK, 1)):
        assert re.fullmatch(r"[A-Za-z0-9_.~-]{1,128}", token)


@pytest.mark.parametrize("reads", ["callback", "payload"])
def test_change_of_one_character_is_forged(reads: str) -> None:
    """Changing, adding or removing any one character makes a token forged, spare base64 bits included."""
    token = TOKENS.callback_token(TASK, 1, NOW + HOUR) if reads == "callback" else TOKENS.payload_token(TASK, 1)
    for place in range(len(token) + 1):
        assert _forged(reads, token[:place] + token[place + 1 :]) or place == len(token)
        for character in OTHERS:
            assert _forged(reads, token[:place] + character + token[place:])
            assert _forged(reads, token[:place] + character + token[place + 1 :]) or token[place] == character


def _forged(reads: str, token: str) -> bool:
    try:
        if reads == "callback":
            TOKENS.read_callback_token(token, NOW)
        else:
            TOKENS.read_payload_token(token)
    except BadToken as error:
        return error.reason == "forged"
    return False


def test_token_of_another_purpose_is_forged() -> None:
    """A payload token is no address token, and an address token is no payload token."""
    with pytest.raises(BadToken):
        TOKENS.read_callback_token(TOKENS.payload_token(TASK, 1), NOW)
    with pytest.raises(BadToken):
        TOKENS.read_payload_token(TOKENS.callback_token(TASK, 1, NOW + HOUR))


def signed_for(purpose: bytes, value: str) -> str:
    """Return `value`, signed with our key for one purpose."""
    signer = Signer("new-key", salt=purpose, key_derivation="hmac", digest_method=hashlib.sha256)
    return signer.sign(value).decode()


def test_signature_is_valid_for_one_purpose() -> None:
    """A signature of one purpose over the claims of the other is forged: the purposes do not share a derived key."""
    address, payload = f"{TASK}~1~{int((NOW + HOUR).timestamp())}", f"{TASK}~1"
    assert TOKENS.read_callback_token(signed_for(CALLBACK_SALT, address), NOW).submission == 1
    assert TOKENS.read_payload_token(signed_for(PAYLOAD_SALT, payload)).submission == 1
    assert _forged("callback", signed_for(PAYLOAD_SALT, address))
    assert _forged("payload", signed_for(CALLBACK_SALT, payload))
    assert _forged("callback", signed_for(b"boomerang webhook secret", address))


def test_newest_key_signs_and_every_key_verifies() -> None:
    """After a rotation older tokens are valid, and new ones need the new key."""
    old, new = Tokens(["old-key"]), Tokens(["new-key"])
    assert TOKENS.read_callback_token(old.callback_token(TASK, 1, NOW + HOUR), NOW).task_id == TASK
    assert TOKENS.payload_token(TASK, 1) == new.payload_token(TASK, 1)
    with pytest.raises(BadToken):
        old.read_payload_token(TOKENS.payload_token(TASK, 1))


def test_selected_key_signs() -> None:
    """The key that the key ring selects signs both kinds of tokens, from its selection on."""
    key_ring = KeyRing(["new-key", "old-key"])
    tokens, old = Tokens(key_ring), Tokens(["old-key"])
    key_ring.sign_with(fingerprint("old-key"))
    assert tokens.callback_token(TASK, 1, NOW + HOUR) == old.callback_token(TASK, 1, NOW + HOUR)
    assert tokens.payload_token(TASK, 1) == old.payload_token(TASK, 1)
    key_ring.sign_with(fingerprint("new-key"))
    assert tokens.payload_token(TASK, 1) == Tokens(["new-key"]).payload_token(TASK, 1)
    assert tokens.read_payload_token(old.payload_token(TASK, 1)).task_id == TASK


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (Tokens(["any key"]).payload_token(TASK, 2), True),
        (Tokens(["any key"]).payload_token(TASK, 1), False),
        (Tokens(["any key"]).payload_token(TaskId("another"), 2), False),
        (Tokens(["any key"]).callback_token(TASK, 2, NOW), False),
        (f"{TASK}~2", False),
        (f"{TASK}~2.", False),
        (f"{TASK}~02.abc", False),
        (f"x{TASK}~2.abc", False),
        ("a" * 1_000_000, False),
        ("\ud800", False),
    ],
)
def test_payload_in_an_answer_of_the_provider_is_compared_by_its_claims(payload: str, expected: bool) -> None:
    """A payload that the provider returns names task and submission, whichever key signed it."""
    assert names_submission(payload, TASK, range(2, 3)) is expected


def test_token_of_an_unknown_key_is_forged() -> None:
    """No other key creates a valid token."""
    with pytest.raises(BadToken) as refused:
        TOKENS.read_callback_token(Tokens(["theirs"]).callback_token(TASK, 1, NOW + HOUR), NOW)
    assert refused.value.reason == "forged"


@pytest.mark.parametrize(("late", "good"), [(0, True), (60, True), (61, False), (10**6, False)])
def test_token_is_valid_until_its_expiry_and_the_leeway(late: int, good: bool) -> None:
    """The expiry is inside the token, with a minute of tolerance for clocks."""
    token = TOKENS.callback_token(TASK, 1, NOW)
    if good:
        assert TOKENS.read_callback_token(token, NOW + timedelta(seconds=late)).task_id == TASK
        return
    with pytest.raises(BadToken) as refused:
        TOKENS.read_callback_token(token, NOW + timedelta(seconds=late))
    assert refused.value.reason == "expired"


def test_leeway_can_be_set() -> None:
    """Without leeway a token ends with its second."""
    strict = Tokens(["k"], leeway=timedelta())
    with pytest.raises(BadToken):
        strict.read_callback_token(strict.callback_token(TASK, 1, NOW), NOW + timedelta(seconds=1))


@pytest.mark.parametrize(
    "text",
    ["", ".", "~", "~.", "é" * 30, "\ud800", "a" * 10_000_000, "0198~1~99999999999.", "\x00", "a~1~1.b", " "],
    ids=lambda text: ascii(text[:12]),
)
def test_any_text_is_forged_without_another_error(text: str) -> None:
    """Any text is refused as forged: empty, huge, with foreign or broken characters."""
    assert _forged("callback", text)
    assert _forged("payload", text)


def test_error_does_not_show_the_token() -> None:
    """Only the reason of a bad token is logged."""
    token = TOKENS.callback_token(TASK, 1, NOW) + "A"
    with pytest.raises(BadToken) as refused:
        TOKENS.read_callback_token(token, NOW)
    assert TASK not in str(refused.value)
    assert token not in repr(refused.value)


@pytest.mark.parametrize("keys", [[], [""], ["good", ""]])
def test_missing_or_empty_key_is_a_bad_setting(keys: list[str]) -> None:
    """No key, or an empty one, is a wrong setting."""
    with pytest.raises(BadSetting, match="SECRET_KEYS"):
        Tokens(keys)


@pytest.mark.parametrize(("task_id", "submission"), [("a~b", 1), ("", 1), ("a/b", 1), ("a", -1), ("a" * 101, 1)])
def test_invalid_task_id_is_a_programming_error(task_id: str, submission: int) -> None:
    """An id with characters that a token cannot contain is refused when signing."""
    with pytest.raises(ValueError, match="names a task"):
        TOKENS.payload_token(TaskId(task_id), submission)


def test_expiry_is_rounded_up() -> None:
    """A token holds whole seconds: a part of one is rounded up."""
    until = NOW.replace(microsecond=1)
    expires = TOKENS.read_callback_token(TOKENS.callback_token(TASK, 1, until), NOW).expires
    assert expires is not None
    assert timedelta(0) <= expires - until < timedelta(seconds=1)
