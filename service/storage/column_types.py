"""Types of columns and parameters that behave alike on SQLite and PostgreSQL, and the IN list that is one parameter."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic_core import from_json, to_json
from sqlalchemy import ARRAY, BigInteger, ColumnElement, Dialect, Text, bindparam, types
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
REPLACEMENT = "\ufffd"

JSON_ENCODER = json.JSONEncoder(separators=(",", ":"))
"""Shared by all values: `json.dumps` with separators makes an encoder for each."""

RAW_DECODE = json.JSONDecoder().raw_decode
"""Reads JSON without white space around it, which stored JSON never has."""

EMPTY_VALUES: dict[str, Callable[[], Any]] = {"{}": dict, "[]": list}
EMPTY_TEXTS: dict[type, str] = {dict: "{}", list: "[]", tuple: "[]"}
"""Most JSON columns are empty: a dictionary lookup replaces the encoder and the decoder."""


class UtcDateTime(types.TypeDecorator[datetime]):
    """An aware time, read in UTC: `timestamptz` on PostgreSQL, microseconds since 1970 on SQLite."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type that `dialect` stores."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(types.TIMESTAMP(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Return what the driver stores for `value`; raises ValueError for a time without an offset."""
        return _checked_time(value) if dialect.name == "postgresql" else _to_microseconds(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002 - SQLAlchemy's
        """Return the function that reads a value, without the two that SQLAlchemy 2.1 wraps around it."""
        return _to_utc if dialect.name == "postgresql" else _from_microseconds


class JsonText(types.TypeDecorator[Any]):
    """A JSON value stored as ASCII text, because PostgreSQL's own JSON types refuse NUL and lone surrogates."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the JSON text of `value`; None stays NULL."""
        return encode_json(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:  # noqa: ARG002 - SQLAlchemy's
        """Return the function that reads a value, without the two that SQLAlchemy 2.1 wraps around it."""
        return decode_json


def encode_json(value: Any) -> str | None:
    """Return the JSON text of `value`; None stays NULL."""
    if value is None:
        return None
    return json_text(value) if value else EMPTY_TEXTS.get(type(value)) or json_text(value)


def json_text(value: Any) -> str:
    """Return the JSON text of `value`, ASCII alone.

    `pydantic_core` takes a third of the time, and writes other characters as they are: such values, and those that it
    refuses (lone surrogates), are encoded by `json`.
    """
    try:
        text = to_json(value)
    except ValueError:
        return JSON_ENCODER.encode(value)
    return text.decode("ascii") if text.isascii() else JSON_ENCODER.encode(value)


def decode_json(value: str | None) -> Any:
    """Return the value of a stored JSON text; NULL becomes None.

    `pydantic_core` takes a third of the time, and refuses lone surrogates, which `json` reads.
    """
    if value is None:
        return None
    if value in EMPTY_VALUES:
        return EMPTY_VALUES[value]()
    try:
        return from_json(value, cache_strings="none")
    except ValueError:
        return RAW_DECODE(value)[0]


class SafeText(types.TypeDecorator[str]):
    """Text from any source: characters that no database stores (NUL, lone surrogates) become U+FFFD."""

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


def storable_texts(values: list[str | None]) -> list[str | None]:
    """Return many texts as every database can store them; they are looked at together, since most need no change."""
    joined = "".join(filter(None, values))
    return values if joined.isascii() and "\0" not in joined else [*map(storable_text, values)]


def storable_times(values: list[datetime | None], *, postgres: bool) -> list[Any]:
    """Return what the driver stores for many times, which are often one and the same."""
    convert, last, converted = _checked_time if postgres else _to_microseconds, None, None
    found = []
    for value in values:
        if value is not last:
            last, converted = value, convert(value)
        found.append(converted)
    return found


def _checked_time(value: datetime | None) -> datetime | None:
    if value is not None and value.tzinfo is None:
        raise ValueError("a stored time needs its UTC offset")
    return value


def _to_microseconds(value: datetime | None) -> int | None:
    at = _checked_time(value)
    return None if at is None else (at - EPOCH) // MICROSECOND


def _to_utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


def _from_microseconds(value: int | None) -> datetime | None:
    return None if value is None else EPOCH + timedelta(microseconds=value)


class ListParameter(types.TypeDecorator[Any]):
    """A collection of texts, or of `numbers`: an array on PostgreSQL, JSON text on SQLite."""

    impl = Text
    cache_ok = True

    def __init__(self, *, numbers: bool = False) -> None:
        super().__init__()
        self.numbers = numbers

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type that `dialect` takes."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(ARRAY(BigInteger if self.numbers else Text))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Return the parameter for the driver."""
        return list(value) if dialect.name == "postgresql" else JSON_ENCODER.encode(list(value))


class _InList(FunctionElement[Any]):
    inherit_cache = True
    type = types.NullType()  # for a Boolean, SQLAlchemy compares with 1 on SQLite, which then uses no index


def in_list(column: ColumnElement[Any], name: str, *, numbers: bool = False) -> ColumnElement[bool]:
    """Return the condition that `column` is in the parameter `name`, a collection of texts or of `numbers`.

    The list is one parameter, so that one prepared statement fits lists of any length.
    """
    return _InList(column, bindparam(name, type_=ListParameter(numbers=numbers)))


@compiles(_InList, "sqlite")
def _for_sqlite(element: _InList, compiler: SQLCompiler, **options: Any) -> str:
    column, wanted = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({wanted}))"  # noqa: S608 - both are compiled


@compiles(_InList, "postgresql")
def _for_postgresql(element: _InList, compiler: SQLCompiler, **options: Any) -> str:
    column, wanted = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} = ANY({wanted})"
