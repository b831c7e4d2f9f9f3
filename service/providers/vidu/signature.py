"""Vidu's callback signature: HMAC-SHA256 over method, address, date and named headers, not over the body."""

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from service.domain.errors import BadSetting, BadSignature

ACCESS_KEY = "vidu"
ALGORITHM = "hmac-sha256"
SIGNED_HEADERS = "Date;x-request-nonce"
MAX_SIGNED_HEADERS = 16
MAX_VALUE = 512


def sign(key: str, *, url: str, headers: Mapping[str, str], method: str = "POST") -> str:
    """Return base64(HMAC-SHA256(key, signing string)) for a callback to `url`.

    `headers` contain `Date` and the headers named in `X-HMAC-SIGNED-HEADERS` (default: `Date;x-request-nonce`).
    """
    return _signature(key, _signing_string(method, url, _lowered(headers))).decode("ascii")


class ViduVerifier:
    """Verifies signatures of callbacks to one of `public_urls` with `keys`; any of the keys may have signed.

    The header `Date` may differ from the current time by at most `tolerance`. Raises BadSetting without keys.
    """

    def __init__(self, keys: Sequence[str], *public_urls: str, tolerance: timedelta = timedelta(minutes=5)) -> None:
        if not keys or not all(keys):
            raise BadSetting("verifying Vidu's callbacks needs BOOMERANG_UPSTREAM_KEY")
        self._keys = tuple(keys)
        self._urls = public_urls
        self._tolerance = tolerance

    def verify(self, headers: Mapping[str, str], now: datetime) -> str | None:
        """Return the signature's nonce; raises BadSignature if a header is missing, stale or does not match."""
        lowered = _lowered(headers)
        _check_scheme(lowered)
        self._check_date(_required(lowered, "date"), now)
        signature = _required(lowered, "x-hmac-signature").encode("utf-8", "surrogatepass")
        texts = [_signing_string("POST", url, lowered) for url in self._urls]
        signatures = [_signature(key, text) for key in self._keys for text in texts]
        matches = [hmac.compare_digest(each, signature) for each in signatures]  # constant time
        if not any(matches):
            raise BadSignature("the callback's signature does not match")
        return _required(lowered, "x-request-nonce")

    def _check_date(self, value: str, now: datetime) -> None:
        try:
            at = parsedate_to_datetime(value)
            at = at if at.tzinfo else at.replace(tzinfo=UTC)
            stale = abs(at - now) > self._tolerance
        except (ValueError, TypeError, OverflowError, IndexError) as error:
            raise BadSignature("the callback's Date is invalid") from error
        if stale:
            raise BadSignature("the callback's Date is too far from now")


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _required(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "")
    if not value or len(value) > MAX_VALUE:
        raise BadSignature(f"the callback's {name} header is missing or too long")
    return value


def _check_scheme(headers: Mapping[str, str]) -> None:
    """Raise BadSignature unless the scheme is Vidu's and the signature covers date and nonce."""
    if _required(headers, "x-hmac-algorithm").lower() != ALGORITHM:
        raise BadSignature("the callback's signature has an unknown algorithm")
    if _required(headers, "x-hmac-access-key") != ACCESS_KEY:
        raise BadSignature("the callback's signature has an unknown access key")
    names = {name.strip().lower() for name in _required(headers, "x-hmac-signed-headers").split(";")}
    if not {"date", "x-request-nonce"} <= names:
        raise BadSignature("the callback's signature does not cover date and nonce")


def _signing_string(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    """Return the signed lines, each with a final LF; `headers` have lower-case names."""
    parts = urlsplit(url)
    names = headers.get("x-hmac-signed-headers", SIGNED_HEADERS).split(";")
    if len(names) > MAX_SIGNED_HEADERS:
        raise BadSignature("the callback signs too many headers")
    head = [method, parts.path or "/", parts.query, ACCESS_KEY, headers.get("date", "")]
    lines = head + [f"{name}:{headers.get(name.lower(), '')}" for name in names]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")


def _signature(key: str, text: bytes) -> bytes:
    return b64encode(hmac.new(key.encode(), text, hashlib.sha256).digest())
