"""Targets: tokens, callbacks and signatures. Invalid input is refused, and no other exception is raised."""

import base64
import hashlib
import hmac
import json
import re
import string
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import urlsplit

from service.api.endpoints import encode_json
from service.domain.callback import Callback, UnreadableCallback, read_callback
from service.domain.errors import BadSignature, BadToken, SenderError
from service.domain.task import Fact, TaskId
from service.domain.task_update import fact_from_json, fact_to_json
from service.domain.tokens import Tokens
from service.domain.webhook_secrets import is_webhook_secret
from service.providers.callback_bodies import read_fact
from service.providers.task_ids import path_segment, task_id
from service.providers.vidu.signature import ViduVerifier, sign
from tests.fuzz.input_reader import InputReader, as_text, mutated, result_or_error

NOW = datetime(2026, 5, 6, 12, 9, 42, tzinfo=UTC)
DAY = timedelta(days=1)
KEYS = ("the newest key", "an older key")
TOKENS = Tokens(KEYS)
SIGNERS = [Tokens([key]) for key in KEYS]
CALLBACK_TOKEN = TOKENS.callback_token(TaskId("task-1"), 3, NOW + DAY)
PAYLOAD_TOKEN = TOKENS.payload_token(TaskId("task-1"), 3)
URL = "https://hook.example/callbacks/token?a=b"
MAX_TEXT, MAX_URL, MAX_ITEMS = 2000, 8192, 64
COMMON_CHARACTERS = 8
"""Length up to which an error message may contain the refused input by chance."""


def callback_token(data: bytes) -> None:
    """Read a callback token: every accepted one equals a token of the signer."""
    reader = InputReader(data)
    token = mutated(CALLBACK_TOKEN, reader) if reader.byte() % 2 else reader.text()
    result = result_or_error(lambda: TOKENS.read_callback_token(token, NOW), BadToken)
    if isinstance(result, BadToken):
        assert token != CALLBACK_TOKEN
        assert len(token) < COMMON_CHARACTERS or token not in str(result)
        return
    assert result.expires is not None
    assert token in [one.callback_token(result.task_id, result.submission, result.expires) for one in SIGNERS]


def payload_token(data: bytes) -> None:
    """Read a payload token: every accepted one equals a token of the signer; a callback token is refused."""
    reader = InputReader(data)
    token = mutated(reader.choose((PAYLOAD_TOKEN, CALLBACK_TOKEN)), reader) if reader.byte() % 2 else reader.text()
    result = result_or_error(lambda: TOKENS.read_payload_token(token), BadToken)
    if isinstance(result, BadToken):
        assert token != PAYLOAD_TOKEN
        return
    assert token in [one.payload_token(result.task_id, result.submission) for one in SIGNERS]


def callback(data: bytes) -> None:
    """Read a callback: bounded facts or a refusal; its digest is that of its bytes."""
    reader = InputReader(data)
    token = CALLBACK_TOKEN if reader.byte() % 8 else mutated(CALLBACK_TOKEN, reader)
    body = reader.rest()
    if body[:1] == b"!":  # a body with the payload token or a mutated one
        correlated = json.dumps(
            {"id": "up1", "status": "completed", "payload": mutated(PAYLOAD_TOKEN, InputReader(body[1:]))}
        )
        body = correlated.encode("utf-8", "surrogatepass")
    result = result_or_error(
        lambda: read_callback(
            TOKENS.read_callback_token(token, NOW), {}, body, NOW, tokens=TOKENS, read_fact=read_fact
        ),
        SenderError,
    )
    if isinstance(result, UnreadableCallback):
        assert (result.claims.task_id, result.claims.submission) == ("task-1", 3)
        assert len(str(result)) < MAX_TEXT
    elif isinstance(result, BadToken):
        assert token != CALLBACK_TOKEN or result.reason == "another_task"
    else:
        assert isinstance(result, Callback)
        assert token == CALLBACK_TOKEN
        _check_callback(result, body)


def _check_callback(result: Callback, body: bytes) -> None:
    assert (result.task_id, result.submission) == ("task-1", 3)
    assert result.digest == f"task-1~3~{hashlib.sha256(body).hexdigest()}"
    assert not result.correlated or result.fact.correlation == PAYLOAD_TOKEN
    check_fact(result.fact)


NOT_STORED = {"correlation": None, "word": None, "warnings": ()}
"""Fields of a fact that a stored hint leaves out."""

MAX_WARNING = MAX_TEXT + 100
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~%")


def check_fact(fact: Fact) -> None:
    """Check that a fact is bounded, can be stored and sent, and survives a round trip."""
    assert not fact.guessed
    assert fact.progress is None or 0 <= fact.progress <= 1
    assert len(fact.output) <= MAX_ITEMS
    assert all(len(item["url"]) <= MAX_URL and item["url"].lower().startswith("http") for item in fact.output)
    assert fact.error is None or max(len(fact.error.code), len(fact.error.message)) <= MAX_TEXT
    assert fact.upstream_id is None or task_id(fact.upstream_id) == fact.upstream_id
    assert fact.upstream_id is None or set(path_segment(fact.upstream_id)) <= UNRESERVED
    assert all(len(text) <= MAX_WARNING and not CONTROL.search(text) for text in (*fact.warnings, fact.word or ""))
    plain = fact_to_json(fact)
    assert vars(fact_from_json(json.loads(encode_json(plain)))) == vars(fact) | NOT_STORED


def vidu_signature(data: bytes) -> None:
    """Verify a signature: every accepted one matches the documented signing string, within minutes of now."""
    reader = InputReader(data)
    date = format_datetime(NOW + timedelta(seconds=reader.byte() * 5 - 600), usegmt=True) if reader.byte() % 4 else ""
    headers = {
        "Date": date or as_text(reader.chunk()),
        "x-request-nonce": as_text(reader.chunk()) or "nonce-1",
        "X-HMAC-ALGORITHM": reader.choose(("hmac-sha256", "HMAC-SHA256", "none", "")),
        "X-HMAC-ACCESS-KEY": reader.choose(("vidu", "vidu", "vidu", "Vidu")),
        "X-HMAC-SIGNED-HEADERS": mutated("Date;x-request-nonce", reader),
    }
    signature = ""
    with suppress(BadSignature):
        signature = mutated(sign(reader.choose(("our key", "our key", "other key")), url=URL, headers=headers), reader)
    signed_headers = headers | {"x-hmac-signature": signature}
    try:
        nonce = ViduVerifier(["old", "our key"], URL).verify(signed_headers, NOW)
    except BadSignature:
        return
    assert nonce == headers["x-request-nonce"]
    assert signature == _documented_signature(headers)


def _documented_signature(headers: dict[str, str]) -> str:
    """Return the signature as the provider's page defines it."""
    parts, lowered = urlsplit(URL), {name.lower(): value for name, value in headers.items()}
    lines = ["POST", parts.path, parts.query, "vidu", headers["Date"]]
    lines += [f"{name}:{lowered.get(name.lower(), '')}" for name in headers["X-HMAC-SIGNED-HEADERS"].split(";")]
    signed = "".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.new(b"our key", signed, hashlib.sha256).digest()).decode()


def webhook_secret(data: bytes) -> None:
    """Read a webhook secret: every accepted one has a key of 24 to 64 bytes."""
    reader = InputReader(data)
    text = "whsec_" + base64.b64encode(reader.rest()).decode() if reader.byte() % 2 else reader.text()
    if is_webhook_secret(text):
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
        assert text.startswith("whsec_")
        assert 24 <= len(key) <= 64
