"""Parse the text of a setting. A parser raises ValueError that names the allowed values and never repeats the text."""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import PurePosixPath
from typing import TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from service.deliveries.egress_allow_syntax import egress_network, egress_target
from service.domain.api_key import ApiKey
from service.domain.archive_address import archive_address
from service.domain.durations import UNITS, duration
from service.domain.submission_limits import HANDLER_CLIENT, ClientLimit
from service.domain.webhook_secrets import is_webhook_secret

T = TypeVar("T")
Parse = Callable[[str], T]

MAX_DOLLARS = 10**9
MIN_SECRET_LENGTH = 32
MIN_API_KEY_LENGTH = 8
ROLES = frozenset({"admin", "read"})
"""What may follow a key, behind a colon."""
CLIENT_NAME = re.compile(r"[\w.@-]{1,64}")
LIMITED_CLIENT = re.compile(rf"{HANDLER_CLIENT}[A-Za-z0-9_-]+|{CLIENT_NAME.pattern}")
"""A client with a limit: one with an API key, or a handler with the tasks that it makes."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def positive_duration(text: str) -> timedelta:
    """Return a duration longer than 0."""
    length = duration(text)
    if not length:
        raise ValueError("must be a duration of more than 0, like 500ms, 30s, 15m, 2h or 30d")
    return length


def lease(text: str) -> timedelta:
    """Return a duration from one second to one hour, like `60s`.

    A shorter lease could not be renewed in time; what a killed process worked on waits for the end of its lease.
    """
    return seconds_to_an_hour(text)


def seconds_to_an_hour(text: str) -> timedelta:
    """Return a duration from one second to one hour."""
    length = duration(text)
    if not timedelta(seconds=1) <= length <= timedelta(hours=1):
        raise ValueError("must be a duration from 1s to 1h, like 75s")
    return length


def durations(text: str) -> tuple[timedelta, ...]:
    """Return one or more durations, like `0s,5s,30s`."""
    try:
        return tuple(duration(part) for part in comma_separated(text))
    except ValueError:
        raise ValueError("must be durations with commas between them, like 0s,5s,30s,2m") from None


def rate(text: str) -> float:
    """Return the rate per second that `10/s`, `600/m` or `36000/h` names; greater than 0."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)/(s|m|h)", text)
    if match is None or not float(match[1]):
        raise ValueError("must be requests for a time, more than 0, like 10/s, 600/m or 3600/h")
    return float(match[1]) / UNITS[match[2]].total_seconds()


def whole_number(minimum: int, maximum: int) -> Parse[int]:
    """Return a parser of whole numbers from `minimum` to `maximum`, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not minimum <= int(text) <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum}")
        return int(text)

    return parse


def dollars(text: str) -> Decimal:
    """Return an amount in US dollars, from 0 to a billion: a float may not hold more."""
    with suppress(InvalidOperation):
        amount = Decimal(text)
        if amount.is_finite() and 0 <= amount <= MAX_DOLLARS:
            return amount
    raise ValueError("must be an amount in US dollars a day, like 25 or 12.50, at most a billion")


def positive_dollars(text: str) -> Decimal:
    """Return an amount in US dollars of more than 0, at most a billion."""
    with suppress(ValueError):
        amount = dollars(text)
        if amount:
            return amount
    raise ValueError("must be an amount in US dollars of more than 0, like 1.00 or 0.005, at most a billion")


def client_limit(parse: Parse[float]) -> Parse[ClientLimit]:
    """Return a parser of a limit for each client, with exceptions: `5`, `5,bot=20,ops=none` or `bot=20`.

    `parse` reads one number. Raises ValueError for a client that is named twice, and for two limits without a name.
    """

    def read(text: str) -> ClientLimit:
        pairs = [part.rpartition("=") for part in comma_separated(text)]
        names = [name.strip() if equals else None for name, equals, _ in pairs]
        if len(set(names)) < len(names) or not all(name is None or LIMITED_CLIENT.fullmatch(name) for name in names):
            raise ValueError("must name each client once, like 5,bot=20,ops=none, and have one limit for the others")
        limits = {name: _limit(value.strip(), parse) for name, (_, _, value) in zip(names, pairs, strict=True)}
        return ClientLimit(
            default=limits.pop(None, None), exceptions={name: limit for name, limit in limits.items() if name}
        )

    return read


def _limit(text: str, parse: Parse[float]) -> float | None:
    if text.lower() == "none":
        return None
    try:
        return float(parse(text))
    except ValueError as error:
        raise ValueError(f"{error}, or none; with exceptions by client like 5,bot=20,ops=none") from None


def boolean(text: str) -> bool:
    """Return the truth value of true, yes, 1, false, no or 0, in any case."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise ValueError("must be true or false")
    return words[text.lower()]


def comma_separated(text: str) -> tuple[str, ...]:
    """Return the parts between commas without surrounding blanks; no part may be empty."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise ValueError("must be a list with commas between, without empty parts")
    return parts


def address(text: str) -> str:
    """Return an http or https address without trailing slashes; it has no query, fragment or user."""
    parts = _split_http(text)
    if parts is None or parts.query or parts.fragment or "?" in text or "#" in text or parts.username is not None:
        raise ValueError(
            "must be an address like https://example.org or https://example.org/prefix, no query or fragment"
        )
    return text.rstrip("/")


def target(text: str) -> str:
    """Return an http or https address that may have a query but no fragment."""
    if _split_http(text) is None or "#" in text:
        raise ValueError("must be an http or https address")
    return text


def _split_http(text: str) -> SplitResult | None:
    with suppress(ValueError):
        parts = urlsplit(text)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        if valid and not re.search(r"[\s\\\x00-\x1f]", text):
            return parts
    return None


def database(text: str) -> str:
    """Return `sqlite:///FILE` or `postgresql://...`; other schemes of the same databases are replaced."""
    scheme, mark, rest = ("", "", "") if CONTROL.search(text) else text.partition("://")
    kind = scheme.partition("+")[0].lower()
    if mark and kind in {"postgres", "postgresql"} and rest and _has_valid_server(rest):
        return f"postgresql://{rest}"
    file = rest.startswith("/") and rest.strip("/") and ":memory:" not in rest and not CONTROL.search(unquote(rest))
    if mark and kind == "sqlite" and file:
        return f"sqlite://{rest}"
    raise ValueError(
        "must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
        "with %40 %3A %2F for @ : / inside a name or password"
    )


def _has_valid_server(rest: str) -> bool:
    """Return whether the text after `postgresql://` has at most one @ and, if it has a port, a numeric one."""
    before, _, host = re.split("[/?]", rest, maxsplit=1)[0].rpartition("@")
    port = re.search(r":([^:\]]*)$", host)
    return "@" not in before and (port is None or bool(re.fullmatch("[0-9]{1,5}", port[1])))


def database_file(url: str) -> PurePosixPath | None:
    """Return the file of an SQLite address in the form of `database`, None for PostgreSQL."""
    if not url.startswith("sqlite:"):
        return None
    return PurePosixPath(unquote(url.removeprefix("sqlite:///").partition("?")[0]))


def database_kind(url: str) -> str:
    """Return `sqlite` or `postgresql`, which an address in the form of `database` begins with."""
    return url.partition(":")[0]


def archive(text: str) -> str:
    """Return the address of a local directory or of a bucket, like `file:///srv/videos` or `s3://bucket/prefix`."""
    archive_address(text)
    return text


def region(text: str) -> str:
    """Return the name of a region, like `eu-central-1`."""
    if not re.fullmatch(r"[A-Za-z0-9-]{1,40}", text):
        raise ValueError("must be the name of a region, like eu-central-1")
    return text


def egress(text: str) -> tuple[str, ...]:
    """Return networks (CIDR), addresses and host names, each with an optional port, in the form they are given."""
    parts = comma_separated(text)
    for part in parts:
        egress_target(part)
    return parts


def egress_networks(text: str) -> tuple[str, ...]:
    """Return networks (CIDR) and addresses, in the form they are given."""
    parts = comma_separated(text)
    for part in parts:
        egress_network(part)
    return parts


def secret_keys(text: str) -> tuple[str, ...]:
    """Return signing keys, newest first; each has at least 32 characters."""
    keys = comma_separated(text)
    if any(len(key) < MIN_SECRET_LENGTH for key in keys):
        raise ValueError(
            f"must be keys of at least {MIN_SECRET_LENGTH} characters, newest first; `boomerang secret` makes one"
        )
    return keys


def webhook_secrets(text: str) -> tuple[str, ...]:
    """Return Standard Webhooks secrets, newest first; each is `whsec_` and the base64 of 24 to 64 bytes."""
    secrets = comma_separated(text)
    if not all(is_webhook_secret(secret) for secret in secrets):
        raise ValueError("must be secrets like whsec_..., each the base64 of 24 to 64 bytes, newest first")
    return secrets


def api_keys(text: str) -> tuple[ApiKey, ...]:
    """Return the keys of clients from `name=key`, `name=key:admin` and `name=key:read`; a client may have several."""
    keys = tuple(_api_key(part) for part in comma_separated(text))
    if len({key.key for key in keys}) < len(keys):
        raise ValueError("must not give the same key twice")
    return keys


def provider_key(text: str) -> str:
    """Return a key of printable ASCII characters without blanks: others cannot be sent in a header."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must be a key of printable ASCII characters without blanks")
    return text


def access_key(text: str) -> str:
    """Return a key of printable characters without blanks."""
    if not re.fullmatch(r"[!-~]+", text) or len(text) < MIN_API_KEY_LENGTH:
        raise ValueError(f"must be a key of at least {MIN_API_KEY_LENGTH} printable characters without blanks")
    return text


def _api_key(text: str) -> ApiKey:
    name, _, rest = text.partition("=")
    key, colon, role = rest.partition(":")
    if not CLIENT_NAME.fullmatch(name) or not re.fullmatch(r"[!-~]+", key) or (colon and role not in ROLES):
        raise ValueError("must be name=key, name=key:admin or name=key:read, with commas between")
    if len(key) < MIN_API_KEY_LENGTH:
        raise ValueError(f"must have keys of at least {MIN_API_KEY_LENGTH} characters")
    return ApiKey(name=name, key=key, admin=role == "admin", read_only=role == "read")
