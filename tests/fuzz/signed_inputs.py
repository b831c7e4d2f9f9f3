"""Targets: tokens, callbacks and signatures. What is not ours is refused, and nothing else is ever raised."""

import base64
import hashlib
import hmac
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import urlsplit

from service.api.problems import encoded
from service.domain.callback import Callback, UnreadableCallback, read_callback
from service.domain.errors import BadSignature, BadToken, SenderError
from service.domain.fact_json import fact_from_json, fact_to_json
from service.domain.task import Fact, TaskId
from service.domain.tokens import Tokens
from service.domain.webhook_secrets import is_webhook_secret
from service.providers.callback_bodies import read_fact
from service.providers.vidu.signature import ViduVerifier, sign
from tests.fuzz.feed import Feed, as_text, edited, tried

NOW = datetime(2026, 5, 6, 12, 9, 42, tzinfo=UTC)
DAY = timedelta(days=1)
KEYS = ("the newest key", "an older key")
TOKENS = Tokens(KEYS)
MAKERS = [Tokens([key]) for key in KEYS]
GOOD = TOKENS.callback_token(TaskId("task-1"), 3, NOW + DAY)
GOOD_PAYLOAD = TOKENS.payload_token(TaskId("task-1"), 3)
URL = "https://hook.example/callbacks/token?a=b"
MOST_TEXT, MOST_URL, MOST_ITEMS = 2000, 8192, 64
SHORT = 8
"""Characters that a message may have in common with what it refuses by chance."""


def callback_token(data: bytes) -> None:
    """Read an address token: what is taken is, to the last character, one that we make."""
    feed = Feed(data)
    token = edited(GOOD, feed) if feed.byte() % 2 else feed.text()
    claim = tried(lambda: TOKENS.read_callback_token(token, NOW), BadToken)
    if isinstance(claim, BadToken):
        assert token != GOOD
        assert len(token) < SHORT or token not in str(claim)
        return
    assert claim.expires is not None
    assert token in [one.callback_token(claim.task_id, claim.submission, claim.expires) for one in MAKERS]


def payload_token(data: bytes) -> None:
    """Read a payload token: what is taken is one that we make, and an address token is none."""
    feed = Feed(data)
    token = edited(feed.one_of((GOOD_PAYLOAD, GOOD)), feed) if feed.byte() % 2 else feed.text()
    claim = tried(lambda: TOKENS.read_payload_token(token), BadToken)
    if isinstance(claim, BadToken):
        assert token != GOOD_PAYLOAD
        return
    assert token in [one.payload_token(claim.task_id, claim.submission) for one in MAKERS]


def callback(data: bytes) -> None:
    """Read a callback: bounded facts, or a calm refusal; its digest is that of its bytes."""
    feed = Feed(data)
    token = GOOD if feed.byte() % 8 else edited(GOOD, feed)
    body = feed.rest()
    if body[:1] == b"!":  # a body that names our payload token, or nearly
        correlated = json.dumps({"id": "up1", "status": "completed", "payload": edited(GOOD_PAYLOAD, Feed(body[1:]))})
        body = correlated.encode("utf-8", "surrogatepass")
    found = tried(
        lambda: read_callback(
            TOKENS.read_callback_token(token, NOW), {}, body, NOW, tokens=TOKENS, read_fact=read_fact
        ),
        SenderError,
    )
    if isinstance(found, UnreadableCallback):
        assert (found.claims.task_id, found.claims.submission) == ("task-1", 3)
        assert len(str(found)) < MOST_TEXT
    elif isinstance(found, BadToken):
        assert token != GOOD or found.reason == "another_task"
    else:
        assert isinstance(found, Callback)
        assert token == GOOD
        _sound(found, body)


def _sound(found: Callback, body: bytes) -> None:
    assert (found.task_id, found.submission) == ("task-1", 3)
    assert found.digest == f"task-1~3~{hashlib.sha256(body).hexdigest()}"
    assert not found.correlated or found.fact.correlation == GOOD_PAYLOAD
    sound_fact(found.fact)


def sound_fact(fact: Fact) -> None:
    """See that a fact is bounded, can be stored and sent, and comes back as it was."""
    assert not fact.guessed
    assert fact.progress is None or 0 <= fact.progress <= 1
    assert len(fact.output) <= MOST_ITEMS
    assert all(len(item["url"]) <= MOST_URL and item["url"].lower().startswith("http") for item in fact.output)
    assert fact.error is None or max(len(fact.error.code), len(fact.error.message)) <= MOST_TEXT
    assert fact.upstream_id is None or (fact.upstream_id.isascii() and "/" not in fact.upstream_id)
    plain = fact_to_json(fact)
    assert vars(fact_from_json(json.loads(encoded(plain)))) == vars(fact) | {"correlation": None}


def vidu_signature(data: bytes) -> None:
    """Verify a signature: what is taken is that of the documented signing string, within minutes of now."""
    feed = Feed(data)
    date = format_datetime(NOW + timedelta(seconds=feed.byte() * 5 - 600), usegmt=True) if feed.byte() % 4 else ""
    headers = {
        "Date": date or as_text(feed.part()),
        "x-request-nonce": as_text(feed.part()) or "nonce-1",
        "X-HMAC-ALGORITHM": feed.one_of(("hmac-sha256", "HMAC-SHA256", "none", "")),
        "X-HMAC-ACCESS-KEY": feed.one_of(("vidu", "vidu", "vidu", "Vidu")),
        "X-HMAC-SIGNED-HEADERS": edited("Date;x-request-nonce", feed),
    }
    signature = ""
    with suppress(BadSignature):
        signature = edited(sign(feed.one_of(("our key", "our key", "theirs")), url=URL, headers=headers), feed)
    given = headers | {"x-hmac-signature": signature}
    try:
        nonce = ViduVerifier(["old", "our key"], URL).verify(given, NOW)
    except BadSignature:
        return
    assert nonce == headers["x-request-nonce"]
    assert signature == _signature_by_the_book(headers)


def _signature_by_the_book(headers: dict[str, str]) -> str:
    """Return what the provider's page says the signature is."""
    parts, lowered = urlsplit(URL), {name.lower(): value for name, value in headers.items()}
    lines = ["POST", parts.path, parts.query, "vidu", headers["Date"]]
    lines += [f"{name}:{lowered.get(name.lower(), '')}" for name in headers["X-HMAC-SIGNED-HEADERS"].split(";")]
    signed = "".join(line + "\n" for line in lines).encode("utf-8", "surrogatepass")
    return base64.b64encode(hmac.new(b"our key", signed, hashlib.sha256).digest()).decode()


def webhook_secret(data: bytes) -> None:
    """Read a webhook secret: what is taken has a key of 24 to 64 bytes."""
    feed = Feed(data)
    text = "whsec_" + base64.b64encode(feed.rest()).decode() if feed.byte() % 2 else feed.text()
    if is_webhook_secret(text):
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
        assert text.startswith("whsec_")
        assert 24 <= len(key) <= 64
