"""Tokens of the dashboard: sessions in cookies, one-time links that sign in, and those of forms.

Each kind has its own salt, so that none is valid as another. A session and a link name the API key by a fingerprint:
they end with the key. Whether a link was used, or a session ended, is stored elsewhere by their `id`.
"""

import hashlib
import hmac
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from service.domain.errors import BadToken, KeyMissing
from service.domain.key_ring import KeyRing
from service.domain.tokens import CachedSigner, sign_value, verified_value

Kind = Literal["session", "login"]
SALTS: dict[str, bytes] = {
    "session": b"boomerang.session",
    "login": b"boomerang.login-link",
    "form": b"boomerang.form",
}
KEY_SALT = b"boomerang.api-key-fingerprint"
LOCAL_KEY = "local"
"""The key id of the admin of a service without API keys."""

_SIGN_IN = re.compile(r"([a-z0-9]{1,64})~([A-Za-z0-9_-]{1,64})~([0-9]{1,11})")


@dataclass(frozen=True, kw_only=True)
class SignIn:
    """A sign-in with the API key that has the fingerprint `key_id`, until `expires`; `id` is unique."""

    key_id: str
    id: str
    expires: datetime


def key_fingerprint(key: str) -> str:
    """Return a digest of an API key in hex, from which the key cannot be derived."""
    return hmac.digest(KEY_SALT, key.encode(), hashlib.sha256)[:16].hex()


class SessionTokens:
    """Creates and verifies the tokens with `keys`: their signing key signs, all of them verify.

    `may_lack_keys` returns whether another process may know a key that this one does not.
    """

    def __init__(self, keys: KeyRing | Sequence[str], *, may_lack_keys: Callable[[], bool] = lambda: False) -> None:
        self._keys = keys if isinstance(keys, KeyRing) else KeyRing(keys)
        self._may_lack_keys = may_lack_keys
        self._signers = {kind: [CachedSigner(key, salt) for key in self._keys.keys] for kind, salt in SALTS.items()}

    def token(self, kind: Kind, sign_in: SignIn) -> str:
        """Return the token of a sign-in, in characters of a path segment and of a cookie."""
        value = f"{sign_in.key_id}~{sign_in.id}~{math.ceil(sign_in.expires.timestamp())}"
        if not _SIGN_IN.fullmatch(value):
            raise ValueError("a sign-in names a key and an id by letters, digits, - and _")
        return sign_value(self._signers[kind][self._keys.signing_index], value)

    def read(self, kind: Kind, token: str, now: datetime) -> SignIn:
        """Return the sign-in of a token; raises BadToken (`forged`, `expired` at `now`) or KeyMissing."""
        try:
            found = _SIGN_IN.fullmatch(verified_value(self._signers[kind], token))
        except BadToken as error:
            if self._may_lack_keys():
                raise KeyMissing("another process may know the key of this token") from error
            raise
        if found is None:
            raise BadToken("forged")
        expires = datetime.fromtimestamp(int(found[3]), UTC)
        if now >= expires:
            raise BadToken("expired")
        return SignIn(key_id=found[1], id=found[2], expires=expires)

    def form_token(self, subject: str) -> str:
        """Return the token of the forms of one `subject`: a session, or a browser that signs in."""
        return self._signers["form"][self._keys.signing_index].get_signature(subject).decode()

    def is_form_token(self, subject: str, token: str) -> bool:
        """Return whether `token` is that of the forms of `subject`, in a time that does not depend on it."""
        given, valid = token.encode("utf-8", "replace"), False
        for signer in self._signers["form"]:
            valid |= hmac.compare_digest(signer.get_signature(subject), given)
        return valid
