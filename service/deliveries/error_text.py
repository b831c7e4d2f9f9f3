"""Describes the error of an attempt for logs, history and dead letters, without secrets and without addresses."""

import asyncio
import json
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from urllib.parse import quote, quote_plus, unquote, urlsplit

import httpx

from service.domain.delivery_errors import UNREACHABLE

MAX_ERROR_TEXT = 500
"""Characters of an error's text that are stored."""

MAX_ERROR_READ = 8_000
"""Characters of an error's text that are searched for credentials."""

MAX_CHAIN = 8
"""Errors behind an error whose requests are searched for addresses."""

MASK = "…"
WORD_LENGTH = 8
"""A shorter value is masked only where it is a word of its own."""

MIN_LENGTH = 3
MIN_PART = 8
MIN_WORD = 20
"""Characters of a value, of a part of an address, and of a part that may be a plain word, from which it is masked."""

NO_SECRETS = frozenset({"true", "false", "yes", "none", "off"})

ADDRESS = re.compile(r"(?i)((?:[a-z][a-z0-9+.-]{0,30}:)?(?:\\?/){2})([^\s'\"<>]+)")
ENCODED_ADDRESS = re.compile(r"(?i)(%3a%2f%2f)[^\s'\"<>]+")
REDIRECT = re.compile(r"(?i)(redirect location: ['\"]?)[^\s'\"]+")
ASSIGNMENT = re.compile(
    r"(?i)\b([a-z_-]{0,30}(?:token|secret|passw(?:or)?d|key|signature|sig|credential))(['\"]?\s?[=:]\s?['\"]?)[^\s&'\",;]+"
)
WEBHOOK_SECRET = re.compile(r"whsec_\S+")
CREDENTIALS = re.compile(r"(?i)\b(bearer|basic)\s+\S+")

UNREACHABLE_ERRORS = (httpx.RequestError, OSError, asyncio.IncompleteReadError)
"""Errors from which it follows whether and how an address answers: refused, timed out, internal, TLS."""


class SecretMask:
    """Masks secret `values` in texts: as they are, in parts between commas, in addresses, and escaped."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = {form for value in values for part in _parts(value) for form in _forms(part)}
        patterns = [_pattern(form) for form in sorted(forms, key=len, reverse=True)]
        self._pattern = re.compile("|".join(patterns), re.IGNORECASE) if patterns else None

    def __call__(self, text: str) -> str:
        """Return `text` with every value replaced by `…`."""
        return self._pattern.sub(MASK, text) if self._pattern else text


def describe_error(error: BaseException, secrets: Collection[str] = (), mask: SecretMask | None = None) -> str:
    """Return class and message on one line, at most 500 characters.

    It has no credentials and no `secrets`, nothing that `mask` masks, and of an address only scheme and host.
    """
    message = _message(error)
    read = message[:MAX_ERROR_READ]
    if len(message) > len(read):
        read = read.rpartition(" ")[0]  # the cut may have divided a secret
    text = ": ".join(filter(None, (type(error).__name__, read)))
    for secret in sorted((*filter(None, secrets), *_requested_paths(error)), key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = mask_credentials((mask or SecretMask())(text))
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:MAX_ERROR_TEXT]


def mask_credentials(text: str) -> str:
    """Return `text` with addresses reduced to scheme and host, and without tokens, keys and secrets."""
    text = REDIRECT.sub(rf"\1{MASK}", text)
    text = ADDRESS.sub(_without_path, text)
    text = ENCODED_ADDRESS.sub(rf"\1{MASK}", text)
    text = WEBHOOK_SECRET.sub(f"whsec_{MASK}", text)
    text = CREDENTIALS.sub(rf"\1 {MASK}", text)
    return ASSIGNMENT.sub(rf"\1\2{MASK}", text)


def is_unreachable(error: BaseException) -> bool:
    """Return whether `error`, or an error behind it, shows how an address answers."""
    return any(isinstance(each, UNREACHABLE_ERRORS) for each in _chain(error))


def unreachable_text(text: str) -> str:
    """Return the stored text of an error for which clients see only that the address could not be reached."""
    return f"{UNREACHABLE}: {text}"[:MAX_ERROR_TEXT]


# ── what an error contains ──────────────────────────────────────────────────────


def _message(error: BaseException) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"the address answered {error.response.status_code}"
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a handler's own error class may fail to describe itself
        return "(message not available)"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(MAX_CHAIN):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _requested_paths(error: BaseException) -> set[str]:
    """Return the paths and queries of the requests that failed, and where their responses redirect to."""
    found: set[str] = set()
    for each in _chain(error):
        if isinstance(each, httpx.HTTPStatusError):
            found.add(each.response.headers.get("location", ""))
        if isinstance(each, httpx.RequestError | httpx.HTTPStatusError):
            with suppress(RuntimeError):  # an error without a request
                url = each.request.url
                found |= {url.raw_path.decode("ascii", "replace"), url.path, url.query.decode("ascii", "replace")}
    return {text for text in found if len(text) > 1}


def _without_path(match: re.Match[str]) -> str:
    mark, rest = match[1], match[2]
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in rest[len(authority) :]:
        return f"{mark}{MASK}"  # perhaps a password with a slash
    host = authority.rpartition("@")[2]
    return f"{mark}{host}" if len(authority) == len(rest) else f"{mark}{host}/{MASK}"


# ── values ───────────────────────────────────────────────────────────────────


def _parts(value: str) -> set[str]:
    """Return a value, its parts between commas, and of an address all parts but its host that may be secret."""
    found = {value, *re.split(r"[,;\s]+", value)}
    for text in list(found):
        with suppress(ValueError):
            url = urlsplit(text)
            if url.netloc:
                inside = re.split(r"[/?&=#:]+", f"{url.path}?{url.query}#{url.fragment}")
                found |= {part for part in inside if len(part) >= (MIN_WORD if _is_word(part) else MIN_PART)}
                found |= {f"{url.path}?{url.query}" if url.query else url.path}
                secret = url.username if url.password is None else url.password  # a user alone may be a token
                found |= {secret or "", unquote(secret or "")}
    return {part for part in found if len(part) >= MIN_LENGTH and part.lower() not in NO_SECRETS}


def _is_word(part: str) -> bool:
    return part.isascii() and part.isalpha() and part.islower()


def _forms(part: str) -> set[str]:
    """Return a part of a value as it is, in an address, and in quotes."""
    return {part, quote(part), quote(part, safe=""), quote_plus(part), repr(part)[1:-1], json.dumps(part)[1:-1]}


def _pattern(form: str) -> str:
    escaped = re.escape(form)
    return escaped if len(form) >= WORD_LENGTH else rf"(?<!\w){escaped}(?!\w)"
