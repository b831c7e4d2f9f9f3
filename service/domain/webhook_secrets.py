"""Secrets that sign webhooks, in the format of Standard Webhooks: `whsec_` and the base64 of 24 to 64 bytes."""

import hashlib
import hmac
from base64 import b64decode, b64encode

PREFIX = "whsec_"
KEY_BYTES = range(24, 65)


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
