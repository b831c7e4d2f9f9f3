"""Tokens of probes: `boomerang doctor` proves with one that a callback address leads to a process with our keys.

The token stands in the place of a correlation token in a callback address. The process that receives it answers with
another signature over it, which only the holder of the key can make: a page of somebody else cannot pass for us.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from service.domain.errors import BadToken
from service.domain.key_ring import KeyRing
from service.domain.tokens import CachedSigner, sign_value, verified_value

PROBE_SALT = b"boomerang.probe"
ANSWER_SALT = b"boomerang.probe-answer"

LIFETIME = timedelta(minutes=10)
"""How long a token is answered, before and after the time in it: clocks may differ, which another check reports."""

_PROBE = re.compile(r"probe~([A-Za-z0-9_-]{16,64})~([0-9]{1,11})")


class ProbeTokens:
    """Creates, answers and verifies the tokens of probes with `keys`: a key ring, or keys, newest first."""

    def __init__(self, keys: KeyRing | Sequence[str]) -> None:
        self._keys = keys if isinstance(keys, KeyRing) else KeyRing(keys)
        self._probes = [CachedSigner(key, PROBE_SALT) for key in self._keys.keys]
        self._answers = [CachedSigner(key, ANSWER_SALT) for key in self._keys.keys]

    def token(self, nonce: str, now: datetime) -> str:
        """Return a token; `nonce` has 16 to 64 letters, digits, - and _."""
        value = f"probe~{nonce}~{int(now.timestamp())}"
        if not _PROBE.fullmatch(value):
            raise ValueError("a probe has a nonce of 16 to 64 letters, digits, - and _")
        return sign_value(self._probes[self._keys.signing_index], value)

    def answer(self, token: str, now: datetime) -> str | None:
        """Return the answer to a token, signed with the key that signed the token; None for any other text."""
        try:
            value = verified_value(self._probes, token)
        except BadToken:
            return None
        found = _PROBE.fullmatch(value)
        if found is None or abs(now - datetime.fromtimestamp(int(found[2]), UTC)) > LIFETIME:
            return None
        signer = next(own for probe, own in zip(self._probes, self._answers, strict=True) if _signed(probe, token))
        return sign_value(signer, found[1])

    def is_answer(self, text: str, nonce: str) -> bool:
        """Return whether `text` is the answer to the token with this nonce."""
        try:
            return verified_value(self._answers, text) == nonce
        except BadToken:
            return False


def _signed(signer: CachedSigner, token: str) -> bool:
    try:
        verified_value([signer], token)
    except BadToken:
        return False
    return True
