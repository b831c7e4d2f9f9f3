"""Verification and parsing of callbacks: what is accepted, what is refused, and in which order."""

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from service.domain.callback import Callback, UnreadableCallback, Verifier, read_callback
from service.domain.errors import BadSignature, BadToken, UnreadableBody
from service.domain.strict_json import parse_json
from service.domain.task import Status, TaskId
from service.domain.tokens import Tokens
from service.providers.callback_bodies import read_fact
from service.providers.vidu.signature import ViduVerifier

NOW = datetime(2025, 5, 6, 12, 9, 42, tzinfo=UTC)
DATE = "Tue, 06 May 2025 12:09:42 GMT"
NONCE = "123e4567-e89b-12d3-a456-426614174000"
TASK = TaskId("0198c2aa")
TOKENS = Tokens(["key"])
TOKEN = TOKENS.callback_token(TASK, 2, NOW + timedelta(hours=1))
PAYLOAD_TOKEN = TOKENS.payload_token(TASK, 2)
ADDRESS = f"https://boomerang.example/callbacks/{TOKEN}"


def vtrix(**more: Any) -> bytes:
    """Return a body of Vtrix's shape."""
    return json.dumps({"id": "d758n65e878c73cmdg20", "status": "completed", **more}).encode()


def vidu(**more: Any) -> bytes:
    """Return a body of Vidu's own shape, with Vidu's own id."""
    return json.dumps({"id": "8823456", "state": "success", **more}).encode()


def read(body: bytes, *, token: str = TOKEN, verifier: Verifier | None = None, **headers: str) -> Callback:
    """Read a callback that is received now."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    claim = TOKENS.read_callback_token(token, NOW)
    return read_callback(claim, named, body, NOW, tokens=TOKENS, read_fact=read_fact, verifier=verifier)


@pytest.mark.parametrize(("body", "upstream_id"), [(vtrix(), "d758n65e878c73cmdg20"), (vidu(), "8823456")])
def test_bodies_of_both_providers_are_read(body: bytes, upstream_id: str) -> None:
    """A Vtrix body and a Vidu body, with its own id, become facts about the task of the address token."""
    callback = read(body)
    assert (callback.task_id, callback.submission) == (TASK, 2)
    assert (callback.fact.status, callback.fact.upstream_id) == (Status.COMPLETED, upstream_id)


@pytest.mark.parametrize(
    ("payload", "correlated"), [(PAYLOAD_TOKEN, True), (None, False), ("", False), ("the caller's", False), (7, False)]
)
def test_only_our_own_payload_token_correlates(payload: object, correlated: bool) -> None:
    """A body with our token is about this submission; one without it is accepted as well."""
    assert read(vidu(payload=payload)).correlated is correlated


@pytest.mark.parametrize(("task_id", "submission"), [("0198c2bb", 2), ("0198c2aa", 1)])
def test_body_of_another_submission_is_refused(task_id: str, submission: int) -> None:
    """A payload token of another task, or of another submission, is not valid for this address."""
    with pytest.raises(BadToken) as refused:
        read(vtrix(payload=TOKENS.payload_token(TaskId(task_id), submission)))
    assert refused.value.reason == "another_task"


def test_payload_token_is_no_address_token() -> None:
    """A payload token, which the provider may pass on, is refused in the address."""
    with pytest.raises(BadToken):
        read(vtrix(), token=PAYLOAD_TOKEN)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"7", b"{}", b'{"status": "new"}', b'{"state": "x"}'])
def test_error_of_an_unreadable_body_names_the_task(body: bytes) -> None:
    """Truncated or unknown bodies are refused, and the error names the task and the body's digest."""
    with pytest.raises(UnreadableCallback) as refused:
        read(body)
    assert (refused.value.claims.task_id, refused.value.claims.submission) == (TASK, 2)
    assert refused.value.digest == f"{TASK}~2~{sha256(body).hexdigest()}"


def test_bad_token_is_refused_before_the_body_is_read() -> None:
    """The token is verified first, so that a forger gets no information about bodies."""
    with pytest.raises(BadToken):
        read(b"{", token=TOKEN + "x")


def test_bad_signature_is_refused_before_the_body_is_read() -> None:
    """The signature is verified before the body is parsed."""
    with pytest.raises(BadSignature):
        read(b"{", verifier=ViduVerifier(["vda"], ADDRESS))


def test_digest_is_of_task_submission_and_bytes() -> None:
    """Equal bytes for the same submission are one callback; other bytes or another submission are another."""
    other = TOKENS.callback_token(TASK, 3, NOW + timedelta(hours=1))
    digests = [read(vidu()).digest, read(vidu()).digest, read(vidu() + b" ").digest, read(vidu(), token=other).digest]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense",
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "b": 1}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": "\xed\xa0\x80"}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b"[" * 100_000,
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 100_000,
        b"1" * 100_000,
        b"{} {}",
    ],
    ids=range(18),
)
def test_ambiguous_json_is_refused(raw: bytes) -> None:
    """Repeated keys, invalid numbers, broken strings, deep nesting and endless digits are refused."""
    with pytest.raises(UnreadableBody):
        parse_json(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b' {"a": [1, 2.5, null, true]} ', {"a": [1, 2.5, None, True]}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        (b"12345678901234567890123", 12345678901234567890123),
        (b"[[" + b" " * 70 + b"1]]", [[1]]),
    ],
    ids=range(4),
)
def test_ordinary_json_is_read(raw: bytes, value: object) -> None:
    """Valid JSON is read, surrogate pairs and long numbers included."""
    assert parse_json(raw) == value


LONG_TEXT = b'{"image": "' + b"A,[{" * 10_000 + b'", "more": '


@pytest.mark.parametrize(
    "more",
    [
        b"[" * 64 + b"]" * 64,
        b"[" + b"1," * 100_000 + b"1]",
        b"[" + b'"",' * 100_000 + b"1]",
        b'{"a": 1, "a": 2}',
        b'"\\ud800"',
        b"NaN",
        b'"',
        b"\xff",
    ],
    ids=range(8),
)
def test_faults_beside_a_long_string_are_refused(more: bytes) -> None:
    """Nesting, too many values, repeated keys and broken strings are found behind an image in the body."""
    with pytest.raises(UnreadableBody):
        parse_json(LONG_TEXT + more + b"}")


@pytest.mark.parametrize("more", [b"[" * 63 + b"]" * 63, b"[" + b"1," * 90_000 + b"1]", b'"\\ud83d\\ude00"', b'",[{"'])
def test_content_of_a_long_string_is_no_structure(more: bytes) -> None:
    """Commas and brackets in strings count neither as values nor as levels."""
    assert parse_json(LONG_TEXT + more + b"}") == {"image": "A,[{" * 10_000, "more": json.loads(more)}


@pytest.mark.parametrize("inside", [b"", b"1", b'"x"'])
def test_nesting_up_to_the_limit_is_read(inside: bytes) -> None:
    """Sixty-four levels are read, one more is refused."""
    assert isinstance(parse_json(b"[" * 64 + inside + b"]" * 64), list)
    with pytest.raises(UnreadableBody, match="deeper"):
        parse_json(b"[" * 65 + inside + b"]" * 65)
