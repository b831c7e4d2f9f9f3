"""The kinds of parameter that a model may have, as data; a model is a list of them.

Nothing is shared between models by a parameter's name alone: each model owns its parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from service.domain.media.limits import MediaLimits

JsonValue: TypeAlias = bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"] | None

INT64 = 2**63


@dataclass(frozen=True, kw_only=True)
class Text:
    """A string: at most `max_chars` Unicode characters, and something else than blanks unless `blank`."""

    max_chars: int | None = None
    blank: bool = True


@dataclass(frozen=True, kw_only=True)
class Whole:
    """An integer between two bounds, both allowed.

    The default bounds are those of 64 bits: where a vendor names none, this is what every JSON reader can hold.
    """

    minimum: int = -INT64
    maximum: int = INT64 - 1


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A boolean; `unavailable` means that true is refused until the operator allows it."""

    unavailable: bool = False


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of some strings."""

    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Address:
    """An absolute http or https URL."""


@dataclass(frozen=True, kw_only=True)
class MediaList:
    """A list of images or videos, each an address or a base64 data URI.

    `maximum_with` lowers the maximum while the named parameter is a list that is not empty.
    """

    limits: MediaLimits
    minimum: int
    maximum: int
    maximum_with: Mapping[str, int] = field(default_factory=dict)


Kind: TypeAlias = Text | Whole | Flag | Choice | Address | MediaList


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of one model; `default` is what the upstream takes when it is left out (None: nothing)."""

    name: str
    kind: Kind
    about: str
    required: bool = False
    default: JsonValue = None


@dataclass(frozen=True, kw_only=True)
class NoEffect:
    """A warning: `name` is given, but does nothing while every parameter in `when` has one of the listed values."""

    name: str
    when: Mapping[str, tuple[JsonValue, ...]]
    text: str


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model and all that its API page says about its parameters.

    `max_request_bytes` bounds the JSON that goes up; `run_time_by` names the parameters that decide how long a
    task runs.
    """

    name: str
    about: str
    parameters: tuple[Parameter, ...]
    max_request_bytes: int
    no_effect: tuple[NoEffect, ...] = ()
    run_time_by: tuple[str, ...] = ()

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter called `name`, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def effective(self, given: Mapping[str, JsonValue], name: str) -> JsonValue:
        """Return the value that counts upstream: the given one, or the documented default."""
        parameter = self.parameter(name)
        return given.get(name, parameter.default if parameter else None)
