"""The signing keys of a process, and which of them signs while processes with other keys are alive.

All keys verify. The newest key that every live process knows signs, so that keys can be replaced process by process in
any order.
"""

import hashlib
import hmac
from collections.abc import Collection, Iterable, Sequence

from service.domain.errors import BadSetting

FINGERPRINT_SALT = b"boomerang.key-fingerprint"

FINGERPRINT_BYTES = 16


class KeyRing:
    """Holds signing keys, newest first, and selects the one that signs: at first the newest.

    Raises BadSetting without keys.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys or not all(keys):
            raise BadSetting("BOOMERANG_SECRET_KEYS needs at least one key, and no empty one")
        self.keys = tuple(keys)
        self.fingerprints = tuple(fingerprint(key) for key in keys)
        self._signing = 0

    def __repr__(self) -> str:
        """Return the number of keys and the fingerprint of the one that signs."""
        return f"KeyRing({len(self.keys)} keys, signing={self.signing_fingerprint})"

    @property
    def signing(self) -> str:
        """The key that signs now. Read it again for each signature."""
        return self.keys[self._signing]

    @property
    def signing_fingerprint(self) -> str:
        """The fingerprint of the key that signs now."""
        return self.fingerprints[self._signing]

    @property
    def signing_index(self) -> int:
        """The position in `keys` of the key that signs now."""
        return self._signing

    def select(self, known: Iterable[Collection[str]]) -> bool:
        """Sign from now on with the newest key that all live processes know; return whether there is one.

        `known` has the fingerprints of each other live process. Without a common key the newest key signs.
        """
        processes = list(known)
        common = (
            index for index, each in enumerate(self.fingerprints) if all(each in process for process in processes)
        )
        found = next(common, None)
        self._signing = found or 0
        return found is not None


def fingerprint(key: str) -> str:
    """Return a short digest of `key` in hex: equal for equal keys; the key cannot be derived from it."""
    return hmac.digest(key.encode(), FINGERPRINT_SALT, hashlib.sha256)[:FINGERPRINT_BYTES].hex()
