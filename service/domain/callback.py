"""Verify a callback and parse it: claims, headers, raw bytes and the time become a verified fact or an error."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from urllib.parse import unquote

from service.domain.callback_body import parse_callback
from service.domain.errors import BadToken, BodyTooLarge, ProviderUnavailable, UnreadableBody
from service.domain.task import Fact, TaskId
from service.domain.tokens import TokenClaims, Tokens

ReadFact = Callable[[object], Fact]
"""Returns the fact in a parsed body; raises ProviderUnavailable for a body of no known shape."""


def callback_address(public_url: str, token: str) -> str:
    """Return the callback address for `token`; a provider's signature covers exactly this address."""
    return f"{public_url.rstrip('/')}/callbacks/{token}"


def token_in(segment: str) -> str:
    """Return the token that the last segment of a callback address spells, as the address of `callback_address` has it.

    Gateways append a slash and encode characters that need no encoding (RFC 3986, 6.2.2).
    """
    return unquote(segment).rstrip("/")


class Verifier(Protocol):
    """Checks a provider's signature over a callback."""

    def verify(self, headers: Mapping[str, str], now: datetime) -> str | None:
        """Return the signature's nonce, if it has one; raises BadSignature if it is wrong or stale."""


@dataclass(frozen=True, kw_only=True)
class Callback:
    """A verified callback: its task and submission, and the fact in its body.

    `digest` identifies the body and the submission in the inbox. `correlated` is true if the body carried our payload
    token for this submission.
    """

    task_id: TaskId
    submission: int
    fact: Fact
    digest: str
    nonce: str | None = field(default=None, repr=False)
    correlated: bool = False


class UnreadableCallback(UnreadableBody):
    """A body that cannot be read, from a caller with a valid token: the task of `claims` has to be polled.

    `digest` and `nonce` are those of Callback. `too_large` is true for one that decompresses to too many bytes.
    """

    def __init__(
        self, reason: str, *, claims: TokenClaims, digest: str, nonce: str | None = None, too_large: bool = False
    ) -> None:
        super().__init__(reason)
        self.claims = claims
        self.digest = digest
        self.nonce = nonce
        self.too_large = too_large


def read_callback(
    claims: TokenClaims,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
    *,
    tokens: Tokens,
    read_fact: ReadFact,
    verifier: Verifier | None = None,
) -> Callback:
    """Return the callback, verified before it is parsed.

    `claims` are those of its address token (`Tokens.read_callback_token`), `body` the bytes as received. Raises
    BadSignature, BadToken for a body whose payload token names another task or submission, or UnreadableCallback.
    """
    nonce = verifier.verify(headers, now) if verifier else None
    return read_body(claims, headers, body, tokens=tokens, read_fact=read_fact, nonce=nonce)


def read_body(
    claims: TokenClaims,
    headers: Mapping[str, str],
    body: bytes,
    *,
    tokens: Tokens,
    read_fact: ReadFact,
    nonce: str | None = None,
) -> Callback:
    """Return the callback with this body, already verified; `nonce` is that of its signature.

    Raises BadToken for a body whose payload token names another task or submission, or UnreadableCallback.
    """
    digest = callback_digest(claims, body)
    try:
        fact = read_fact(parse_callback(body, headers))
    except (UnreadableBody, ProviderUnavailable) as error:
        too_large = isinstance(error, BodyTooLarge)
        raise UnreadableCallback(str(error), claims=claims, digest=digest, nonce=nonce, too_large=too_large) from error
    return Callback(
        task_id=claims.task_id,
        submission=claims.submission,
        fact=fact,
        digest=digest,
        nonce=nonce,
        correlated=_correlated(fact, claims, tokens),
    )


def callback_digest(claims: TokenClaims, body: bytes) -> str:
    """Return the identity of a body about a submission: task id, submission, and the SHA-256 of the raw body in hex.

    Task ids sort by time, so that callbacks of the same time are neighbours in the inbox's index.
    """
    return f"{claims.task_id}~{claims.submission}~{hashlib.sha256(body).hexdigest()}"


def _correlated(fact: Fact, claims: TokenClaims, tokens: Tokens) -> bool:
    """Return whether the body carries our payload token; raises BadToken if that names another submission."""
    if fact.correlation is None:
        return False
    try:
        named = tokens.read_payload_token(fact.correlation)
    except BadToken:
        return False
    if (named.task_id, named.submission) != (claims.task_id, claims.submission):
        raise BadToken("another_task")
    return True
