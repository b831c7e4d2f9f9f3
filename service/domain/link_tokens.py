"""Tokens of signed links: each opens the content of one task until it expires, without a key."""

import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from service.domain.errors import BadToken, KeyMissing
from service.domain.key_ring import KeyRing
from service.domain.task import TaskId
from service.domain.tokens import CachedSigner, sign_value, verified_value

LINK_SALT = b"boomerang.content-link"
"""Keeps a link from being valid as any other token, and any other token as a link."""

_LINK = re.compile(r"([A-Za-z0-9_-]{1,64})~([0-9]{1,11})")


class LinkTokens:
    """Creates and verifies the tokens of links with `keys`: their signing key signs, all of them verify.

    `may_lack_keys` returns whether another process may know a key that this one does not.
    """

    def __init__(self, keys: KeyRing | Sequence[str], *, may_lack_keys: Callable[[], bool] = lambda: False) -> None:
        self._keys = keys if isinstance(keys, KeyRing) else KeyRing(keys)
        self._may_lack_keys = may_lack_keys
        self._signers = [CachedSigner(key, LINK_SALT) for key in self._keys.keys]

    def token(self, task_id: TaskId, expires: datetime) -> str:
        """Return the token for the content of a task, valid until `expires` (aware, rounded up to a second)."""
        value = f"{task_id}~{math.ceil(expires.timestamp())}"
        if not _LINK.fullmatch(value):
            raise ValueError("a link names a task by letters, digits, - and _")
        return sign_value(self._signers[self._keys.signing_index], value)

    def read(self, token: str, now: datetime) -> tuple[TaskId, datetime]:
        """Return the task and the expiry of a token; raises BadToken (`forged`, `expired` at `now`) or KeyMissing."""
        try:
            found = _LINK.fullmatch(verified_value(self._signers, token))
        except BadToken as error:
            if self._may_lack_keys():
                raise KeyMissing("another process may know the key of this link") from error
            raise
        if found is None:
            raise BadToken("forged")
        expires = datetime.fromtimestamp(int(found[2]), UTC)
        if now >= expires:
            raise BadToken("expired")
        return TaskId(found[1]), expires
