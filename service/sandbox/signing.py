"""Vidu's callback signature: HMAC-SHA256 over method, path, query and the named headers, not over the body."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import urlsplit

ACCESS_KEY = "vidu"
SIGNED_HEADERS = ("Date", "x-request-nonce")


def signing_string(url: str, signed: Mapping[str, str], *, method: str = "POST") -> str:
    """Return the signed text of a callback to `url`; every line, including the last one, ends with LF."""
    parts = urlsplit(url)
    lines = [method, parts.path or "/", parts.query, ACCESS_KEY, signed["Date"]]
    lines += [f"{name}:{signed[name]}" for name in SIGNED_HEADERS]
    return "".join(f"{line}\n" for line in lines)


def signature(key: str, url: str, signed: Mapping[str, str]) -> str:
    """Return the base64 signature of a callback to `url` under the API key."""
    digest = hmac.digest(key.encode(), signing_string(url, signed).encode(), hashlib.sha256)
    return base64.b64encode(digest).decode()


def signed_headers(key: str, url: str, *, nonce: str, at: datetime) -> dict[str, str]:
    """Return all headers of a Vidu callback to `url` at an aware time."""
    signed = {"Date": format_datetime(at.astimezone(UTC), usegmt=True), "x-request-nonce": nonce}
    return {
        **signed,
        "X-HMAC-ALGORITHM": "hmac-sha256",
        "X-HMAC-ACCESS-KEY": ACCESS_KEY,
        "X-HMAC-SIGNED-HEADERS": ";".join(SIGNED_HEADERS),
        "X-HMAC-SIGNATURE": signature(key, url, signed),
    }
