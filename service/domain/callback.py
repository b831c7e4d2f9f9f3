"""The inbound door: what a token says, headers, raw bytes and now become a verified fact, or an exception."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from service.domain.errors import BadToken, ProviderUnavailable, UnreadableBody
from service.domain.strict_json import parse_json
from service.domain.task import Fact, TaskId
from service.domain.tokens import TokenClaims, Tokens

ReadFact = Callable[[object], Fact]
"""Reads what a parsed body says; raises Unwell for a body of no known shape."""


def callback_address(public_url: str, token: str) -> str:
    """Return where the upstream shall call back: what is given out is also what a provider's signature covers."""
    return f"{public_url.rstrip('/')}/callbacks/{token}"


class Verifier(Protocol):
    """Checks a provider's signature over a callback."""

    def verify(self, headers: Mapping[str, str], now: datetime) -> str | None:
        """Return the signature's nonce, if it has one; raises BadSignature when it does not fit or is stale."""


@dataclass(frozen=True, kw_only=True)
class Callback:
    """A callback that may be believed to come from whom we asked: which task and submission, and what it says.

    `digest` is one value for one body about one submission, for the inbox. `correlated` says that the body carried our
    payload token for this very submission.
    """

    task_id: TaskId
    submission: int
    fact: Fact
    digest: str
    nonce: str | None = field(default=None, repr=False)
    correlated: bool = False


class UnreadableCallback(UnreadableBody):
    """A body that cannot be read, from a caller whose token is good: `claims` says which task to poll at once.

    `digest` and `nonce` are as in Callback.
    """

    def __init__(self, reason: str, *, claims: TokenClaims, digest: str, nonce: str | None = None) -> None:
        super().__init__(reason)
        self.claims = claims
        self.digest = digest
        self.nonce = nonce


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
    """Return what a callback says, verified before it is parsed.

    `claims` is what the last segment of its address said (`Tokens.read_callback_token`) and `body` the bytes as they
    came; `read_fact` knows the shapes of providers. Raises BadSignature, BadToken for a body whose payload token names
    another task or submission, or UnreadableCallback.
    """
    nonce = verifier.verify(headers, now) if verifier else None
    return read_body(claims, body, tokens=tokens, read_fact=read_fact, nonce=nonce)


def read_body(
    claims: TokenClaims, body: bytes, *, tokens: Tokens, read_fact: ReadFact, nonce: str | None = None
) -> Callback:
    """Return what the body of a verified callback says; `nonce` is that of its signature.

    Raises BadToken for a body whose payload token names another task or submission, or UnreadableCallback.
    """
    digest = callback_digest(claims, body)
    try:
        fact = read_fact(parse_json(body))
    except (UnreadableBody, ProviderUnavailable) as error:
        raise UnreadableCallback(str(error), claims=claims, digest=digest, nonce=nonce) from error
    return Callback(
        task_id=claims.task_id,
        submission=claims.submission,
        fact=fact,
        digest=digest,
        nonce=nonce,
        correlated=_correlated(fact, claims, tokens),
    )


def callback_digest(claims: TokenClaims, body: bytes) -> str:
    """Return one value for one body about one submission: both of these, and the SHA-256 of the raw body in hex.

    Task ids sort by time, so that callbacks which come together also stand together in the inbox's index.
    """
    return f"{claims.task_id}~{claims.submission}~{hashlib.sha256(body).hexdigest()}"


def _correlated(fact: Fact, claims: TokenClaims, tokens: Tokens) -> bool:
    """Return whether the body names the address's submission; a body that names another one is a forgery."""
    if fact.correlation is None:
        return False
    try:
        named = tokens.read_payload_token(fact.correlation)
    except BadToken:
        return False
    if (named.task_id, named.submission) != (claims.task_id, claims.submission):
        raise BadToken("another_task")
    return True
