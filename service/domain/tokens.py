"""Correlation tokens: the signed values that tie a callback or a payload to a task and a submission of it.

A token is `task_id~submission[~expiry].signature`, in unreserved characters only, so that it is one path segment.
Address tokens and payload tokens have different salts, so that neither is valid in place of the other.
"""

import hashlib
import hmac
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from itsdangerous import Signer
from itsdangerous.encoding import base64_encode, want_bytes

from service.domain.errors import BadToken
from service.domain.key_ring import KeyRing
from service.domain.task import TaskId

MAX_TOKEN_LENGTH = 256


CALLBACK_SALT = b"boomerang.callback-address"


PAYLOAD_SALT = b"boomerang.payload"


_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


_CALLBACK = re.compile(r"([A-Za-z0-9_-]{1,100})~([1-9][0-9]{0,8}|0)~([0-9]{1,11})")


_SIGNATURE = re.compile(r"[A-Za-z0-9_-]{43}")
"""32 bytes in base64 without padding."""


_PAYLOAD = re.compile(r"([A-Za-z0-9_-]{1,100})~([1-9][0-9]{0,8}|0)")


@dataclass(frozen=True, kw_only=True)
class TokenClaims:
    """The claims of a valid token: a task, a submission of it, and the expiry (None: it does not expire).

    `token` is the token as the callback address spells it, since a provider's signature covers that address.
    """

    task_id: TaskId
    submission: int
    expires: datetime | None = None
    token: str = field(default="", repr=False, compare=False)


class Tokens:
    """Creates and verifies correlation tokens with `keys`: their signing key signs, all of them verify.

    `keys` is a key ring, or keys, newest first. `leeway` is how long a token is valid after its expiry, for clocks that
    differ. Raises BadSetting without keys.

    A token is never created again to be compared with a received one: the key that signed it may no longer sign.
    """

    def __init__(self, keys: KeyRing | Sequence[str], *, leeway: timedelta = timedelta(seconds=60)) -> None:
        self._keys = keys if isinstance(keys, KeyRing) else KeyRing(keys)
        self._callback = [CachedSigner(key, CALLBACK_SALT) for key in self._keys.keys]
        self._payload = [CachedSigner(key, PAYLOAD_SALT) for key in self._keys.keys]
        self._leeway = leeway

    def callback_token(self, task_id: TaskId, submission: int, expires: datetime) -> str:
        """Return the token for a callback address, valid until `expires` (aware, rounded up to a second)."""
        seconds = math.ceil(expires.timestamp())
        return sign_value(self._callback[self._keys.signing_index], f"{_unsigned(task_id, submission)}~{seconds}")

    def read_callback_token(self, token: str, now: datetime) -> TokenClaims:
        """Return the claims of an address token; raises BadToken (`forged`, or `expired` at `now`) and nothing else."""
        found = _CALLBACK.fullmatch(verified_value(self._callback, token))
        if found is None:
            raise BadToken("forged")
        expires = datetime.fromtimestamp(int(found[3]), UTC)
        if now > expires + self._leeway:
            raise BadToken("expired")
        return TokenClaims(task_id=TaskId(found[1]), submission=int(found[2]), expires=expires, token=token)

    def payload_token(self, task_id: TaskId, submission: int) -> str:
        """Return the token for the `payload` parameter; it does not expire."""
        return sign_value(self._payload[self._keys.signing_index], _unsigned(task_id, submission))

    def read_payload_token(self, text: str) -> TokenClaims:
        """Return the claims of a payload token; raises BadToken (`forged`) for anything else."""
        found = _PAYLOAD.fullmatch(verified_value(self._payload, text))
        if found is None:
            raise BadToken("forged")
        return TokenClaims(task_id=TaskId(found[1]), submission=int(found[2]))


def names_submission(payload: str, task_id: TaskId, submissions: range) -> bool:
    """Return whether a payload that the provider itself returned is the token of one of `submissions` of a task.

    Only its claims are compared: the answer comes over a connection that our API key authenticates, and the key that
    signed the token may no longer be known. A payload in a callback needs `Tokens.read_payload_token`.
    """
    value, _, signature = payload[:MAX_TOKEN_LENGTH].rpartition(".")
    found = _PAYLOAD.fullmatch(value)
    return bool(found and signature and found[1] == task_id and int(found[2]) in submissions)


def unverified_claims(token: str) -> TokenClaims | None:
    """Return what an address token claims without a check of its signature, None for another text.

    Nothing may be decided by them: anybody can write them.
    """
    value, _, signature = token[: MAX_TOKEN_LENGTH + 1].rpartition(".")
    found = _CALLBACK.fullmatch(value) if len(token) <= MAX_TOKEN_LENGTH else None
    if found is None or not _SIGNATURE.fullmatch(signature):
        return None
    return TokenClaims(task_id=TaskId(found[1]), submission=int(found[2]))


class CachedSigner(Signer):
    """Signs with HMAC-SHA256 in one call, with a key that is derived once: fast for short values."""

    def __init__(self, key: str, salt: bytes) -> None:
        super().__init__(key, salt=salt, key_derivation="hmac", digest_method=hashlib.sha256)
        self._derived = self.derive_key()

    def get_signature(self, value: str | bytes) -> bytes:
        """Return the signature of `value`, in base64."""
        return base64_encode(hmac.digest(self._derived, want_bytes(value), "sha256"))


def _unsigned(task_id: TaskId, submission: int) -> str:
    if not _ID.fullmatch(task_id) or not 0 <= submission < 10**9:
        raise ValueError("a token names a task by letters, digits, - and _, and a submission from 0")
    return f"{task_id}~{submission}"


def sign_value(signer: Signer, value: str) -> str:
    """Return `value` with its signature."""
    return signer.sign(value).decode("ascii")


def verified_value(signers: Sequence[Signer], token: str) -> str:
    """Return the signed value of `token`; raises BadToken if no key verifies it.

    The signature is computed again and compared as text, not as bytes: base64 leaves spare bits in its last character
    and its decoder skips foreign ones, so that many spellings would be valid for one signature.
    """
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        raise BadToken("forged")
    value, _, signature = token.rpartition(".")
    signed, given = value.encode("ascii"), signature.encode("ascii")
    valid = False
    for signer in signers:  # all keys, so that the time does not depend on which one matches
        valid |= hmac.compare_digest(signer.get_signature(signed), given)
    if not valid:
        raise BadToken("forged")
    return value
