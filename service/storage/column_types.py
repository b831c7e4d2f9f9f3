"""The column types that behave alike on SQLite and PostgreSQL."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Dialect, Text, types
from sqlalchemy.types import TypeEngine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
REPLACEMENT = "\ufffd"

JSON_ENCODER = json.JSONEncoder(separators=(",", ":"))
"""Made once: `json.dumps` would make one for each value."""

STORED = json.JSONDecoder().raw_decode
"""Reads our own JSON, around which there is nothing to look for."""

EMPTY: dict[str, Callable[[], Any]] = {"{}": dict, "[]": list}
WRITTEN: dict[type, str] = {dict: "{}", list: "[]", tuple: "[]"}
"""What most columns hold, and is quickly read and written."""


class UtcDateTime(types.TypeDecorator[datetime]):
    """An aware moment, in UTC on its way out: `timestamptz` on PostgreSQL, microseconds since 1970 on SQLite."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type that `dialect` stores."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(types.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Return what the driver stores for `value`; ValueError for a moment without an offset."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a stored moment needs its offset")
        return value if dialect.name == "postgresql" else _microseconds(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002 - SQLAlchemy's
        """Return what reads a value: the function itself, and not the two that SQLAlchemy wraps around it."""
        return _in_utc if dialect.name == "postgresql" else _since_epoch


class JsonText(types.TypeDecorator[Any]):
    """A JSON value kept as ASCII text, because PostgreSQL's own JSON types refuse NUL and lone surrogates."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the JSON text of `value`; None stays NULL."""
        return encode_json(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002 - SQLAlchemy's
        """Return what reads a value: the function itself, and not the two that SQLAlchemy wraps around it."""
        return decode_json


def encode_json(value: Any) -> str | None:
    """Return the JSON text of `value`; None stays NULL."""
    if value is None:
        return None
    return JSON_ENCODER.encode(value) if value else WRITTEN.get(type(value)) or JSON_ENCODER.encode(value)


def decode_json(value: str | None) -> Any:
    """Return the value whose JSON text was stored."""
    if value is None:
        return None
    return EMPTY[value]() if value in EMPTY else STORED(value)[0]


class SafeText(types.TypeDecorator[str]):
    """Text from anywhere: what no database stores (NUL, lone surrogates) becomes U+FFFD on its way in."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return `value` as every database can store it."""
        return storable_text(value)


def storable_text(value: str | None) -> str | None:
    """Return text as every database can store it."""
    if value is None or (value.isascii() and "\0" not in value):
        return value
    return value.replace("\0", REPLACEMENT).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _in_utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


def _since_epoch(value: int | None) -> datetime | None:
    return None if value is None else EPOCH + timedelta(microseconds=value)


def _microseconds(value: datetime) -> int:
    """Return the moment as SQLite stores it: microseconds since 1970."""
    return (value - EPOCH) // MICROSECOND
