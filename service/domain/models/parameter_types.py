"""The types of plain parameters. All are strict: `"5"`, `5.0` and `true` are not integers.

They replace pydantic's own constraints where those report one fault instead of all, or refuse a string that holds a
lone surrogate without its position.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from service.domain.errors import Fault
from service.domain.models.base import ValidationContext, validation_error
from service.domain.models.value_checks import MAX_ADDRESS_CHARS, address_faults, shorten, text_faults

INT32, INT64 = 2**31, 2**63

ADDRESS_SCHEMA: JsonSchemaValue = {
    "type": "string",
    "format": "uri",
    "pattern": r"^https?://[^\s/?#]\S*$",
    "maxLength": MAX_ADDRESS_CHARS,
}


@dataclass(frozen=True, kw_only=True)
class Text:
    """A string of at most `max_chars` Unicode characters, all of which may be whitespace only if `blank`."""

    max_chars: int | None = None
    blank: bool = True

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema that pydantic validates with."""
        del source, handler  # a `str` schema refuses lone surrogates before they can be located
        return core_schema.no_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON Schema."""
        del schema, handler
        limit = {} if self.max_chars is None else {"maxLength": self.max_chars}
        return {"type": "string", **limit} | ({} if self.blank else {"minLength": 1, "pattern": r"^\s*\S"})

    def _validate(self, value: object) -> object:
        return _accept(value, text_faults(value, max_chars=self.max_chars, blank=self.blank))


@dataclass(frozen=True)
class Range:
    """An integer between two bounds, both allowed.

    The default bounds are those of 64 bits, which common JSON parsers support; they apply without documented bounds.
    """

    minimum: int = -INT64
    maximum: int = INT64 - 1

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema that pydantic validates with."""
        return core_schema.no_info_after_validator_function(self._validate, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON Schema."""
        large = {} if -INT32 <= self.minimum <= self.maximum < INT32 else {"format": "int64"}
        return handler(schema) | large | {"minimum": self.minimum, "maximum": self.maximum}

    def _validate(self, value: int) -> int:
        if not self.minimum <= value <= self.maximum:
            limits = f"from {self.minimum} to {self.maximum}"
            _accept(value, [f"must be {limits}, is {shorten(value)}: choose one in that range"])
        return value


class Unavailable:
    """Refuses true until the operator allows it."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema that pydantic validates with."""
        return core_schema.with_info_after_validator_function(self._validate, handler(source))

    @staticmethod
    def _validate(value: bool, info: ValidationInfo[ValidationContext]) -> bool:
        if value and not info.context.allow_unavailable:
            _accept(value, ["is temporarily unavailable upstream: leave it out or set it to false"])
        return value


@dataclass(frozen=True, kw_only=True)
class Excludes:
    """Refuses true while the flag `other` is true."""

    other: str

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema that pydantic validates with."""
        return core_schema.with_info_after_validator_function(self._validate, handler(source))

    def _validate(self, value: bool, info: ValidationInfo[ValidationContext]) -> bool:
        if value and info.context.given.get(self.other) is True:
            _accept(value, [f"is not possible together with {self.other}: leave one of them out"])
        return value


def _accept(value: object, messages: list[str]) -> object:
    """Return `value`; raise ValidationError when there are messages."""
    if messages:
        raise validation_error([Fault(loc=(), msg=message) for message in messages])
    return value


def _validate_address(value: object) -> object:
    return _accept(value, address_faults(value))


Address = Annotated[str, PlainValidator(_validate_address), WithJsonSchema(ADDRESS_SCHEMA)]
"""An absolute http or https URL."""

UnavailableFlag = Annotated[bool, Unavailable()]
"""A boolean that the API page marks as temporarily unavailable: true is refused until the operator allows it."""
