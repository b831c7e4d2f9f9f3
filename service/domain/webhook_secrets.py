"""Secrets that sign webhooks, in the format of Standard Webhooks: `whsec_` and the base64 of 24 to 64 bytes."""

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field

PREFIX = "whsec_"
KEY_BYTES = range(24, 65)

CLIENT_SALT = b"boomerang.client-webhook-secret"

SHARED_SECRETS_SIGN = True
"""Whether WEBHOOK_SECRETS sign beside the secret of a client: in this release and the next, so that receivers can
change from one to the other. The release after that sets it to False."""


def is_webhook_secret(text: str) -> bool:
    """Return whether `text` has the format of a webhook secret."""
    try:
        key = b64decode(text.removeprefix(PREFIX), validate=True)
    except ValueError:
        return False
    return text.startswith(PREFIX) and len(key) in KEY_BYTES


def derive_webhook_secret(signing_key: str) -> str:
    """Derive a webhook secret from a signing key, with a one-way function."""
    derived = hmac.digest(signing_key.encode(), b"boomerang webhook secret", hashlib.sha256)
    return PREFIX + b64encode(derived).decode()


def derive_client_secret(signing_key: str, client: str) -> str:
    """Derive the webhook secret of `client` from a signing key, with a one-way function."""
    purpose = hmac.digest(signing_key.encode(), CLIENT_SALT, hashlib.sha256)
    return PREFIX + b64encode(hmac.digest(purpose, client.encode(), hashlib.sha256)).decode()


@dataclass(frozen=True, kw_only=True)
class ClientSecrets:
    """The secrets that sign the webhooks of each client, derived from the signing `keys`, newest first.

    `shared` are WEBHOOK_SECRETS. They alone sign for the clients in `with_shared`, which are admins.
    """

    keys: Sequence[str] = field(repr=False)
    shared: Sequence[str] = field(repr=False)
    with_shared: frozenset[str] = frozenset()

    def for_client(self, client: str) -> tuple[str, ...]:
        """Return the secrets that sign for `client` now, the one that stays first."""
        if client in self.with_shared:
            return tuple(self.shared)
        own = tuple(derive_client_secret(key, client) for key in self.keys)
        return (*own, *self.shared) if SHARED_SECRETS_SIGN else own
