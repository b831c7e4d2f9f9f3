"""Settings that a handler declares as a pydantic model: their names, their values, and every fault of them.

The field `telegram_token` is the setting BOOMERANG_TELEGRAM_TOKEN: the name of the field in capitals, behind the prefix
of all settings. Fields without a default are required. A list is written with commas, a `timedelta` as `30s`, an
object as JSON.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from service.domain.durations import duration
from service.domain.errors import BadHandler, BadSetting

PREFIX = "BOOMERANG_"
SHOWN_SECRET = "(secret)"  # noqa: S105 - what is shown in place of one

S = TypeVar("S", bound="HandlerSettings")


class HandlerSettings(BaseModel):
    """The base class of the settings that a handler declares; each field is a setting with its name in capitals."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        defer_build=True,  # a start needs the validators of the handlers that are loaded alone
    )


@dataclass(frozen=True, kw_only=True)
class SettingRow:
    """What a list of handlers shows of a declared setting; never its value."""

    name: str
    description: str
    required: bool
    default: str | None
    secret: bool
    set: bool


def check_settings_model(handler: str, model: object) -> None:
    """Raise BadHandler unless `model` is a subclass of HandlerSettings whose fields can be names of variables."""
    if not (isinstance(model, type) and issubclass(model, HandlerSettings)):
        raise BadHandler(f"handler {handler!r}: settings must be a subclass of service.HandlerSettings")
    for name, field in model.model_fields.items():
        if name != name.lower() or not name.isascii() or field.alias:
            raise BadHandler(
                f"handler {handler!r}: the setting {name!r} must be lower-case ASCII without an alias; "
                "its variable is the same name in capitals"
            )


def setting_names(model: type[HandlerSettings] | None) -> tuple[str, ...]:
    """Return the names of all declared settings, without the prefix."""
    return tuple(name.upper() for name in model.model_fields) if model else ()


def required_names(model: type[HandlerSettings] | None) -> tuple[str, ...]:
    """Return the names of the settings without a default, without the prefix."""
    return tuple(name.upper() for name, field in model.model_fields.items() if field.is_required()) if model else ()


def plain_names(models: Iterable[type[HandlerSettings] | None]) -> frozenset[str]:
    """Return the names of the declared settings that no model declares as a secret, without the prefix."""
    fields = [each for model in models if model for each in model.model_fields.items()]
    secret = {name for name, field in fields if is_secret(field.annotation)}
    return frozenset(name.upper() for name, _ in fields if name not in secret)


def read_config(model: type[S], settings: Mapping[str, str]) -> S:
    """Return the typed settings; raises BadSetting with a line for each fault."""
    values, faults = _python_values(model, settings)
    if not faults:
        try:
            return model.model_validate(values)
        except ValidationError as error:
            faults = [*_fault_lines(model, error, settings)]
    raise BadSetting("\n".join(faults))


def config_faults(model: type[HandlerSettings] | None, settings: Mapping[str, str]) -> list[str]:
    """Return a line for each fault of the given values, without any value."""
    if model is None:
        return []
    values, faults = _python_values(model, settings)
    try:
        model.model_validate(values)
    except ValidationError as error:
        faulty = {fault.partition(" ")[0] for fault in faults}
        faults += [line for line in _fault_lines(model, error, settings) if line.partition(" ")[0] not in faulty]
    return faults


def setting_rows(model: type[HandlerSettings] | None, settings: Mapping[str, str]) -> list[SettingRow]:
    """Return a row for each declared setting."""
    return [
        SettingRow(
            name=PREFIX + name.upper(),
            description=field.description or "",
            required=field.is_required(),
            default=None if field.is_required() else _default_text(field),
            secret=is_secret(field.annotation),
            set=bool(settings.get(name.upper())),
        )
        for name, field in (model.model_fields.items() if model else ())
    ]


# ── values ───────────────────────────────────────────────────────────────────


def _python_values(model: type[HandlerSettings], settings: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the given values as pydantic takes them, and a line for each that cannot be split into its parts."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for name, field in model.model_fields.items():
        text = settings.get(name.upper())
        if not text:
            continue
        try:
            values[name] = _python_value(field.annotation, text)
        except ValueError as error:
            faults.append(f"{PREFIX}{name.upper()} {error}")
    return values, faults


def _python_value(annotation: Any, text: str) -> Any:
    """Return `text` as a list, a duration or parsed JSON if the type asks for it, else unchanged."""
    types = [each for each in _members(annotation) if each is not NoneType]
    outer = [get_origin(each) or each for each in types]
    if str in types:
        return text
    if timedelta in types:
        return duration(text)
    if {list, tuple, set, frozenset} & {*outer}:
        return [part for each in text.split(",") if (part := each.strip())]
    if any(each is dict or (isinstance(each, type) and issubclass(each, BaseModel)) for each in outer):
        try:
            return json.loads(text)
        except ValueError:
            raise ValueError("must be JSON") from None
    return text


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)


def is_secret(annotation: Any) -> bool:
    """Return whether a type holds secrets, in a list or as an optional value too."""
    inner = get_args(annotation)
    return annotation in {SecretStr, SecretBytes} or any(is_secret(each) for each in inner)


def _default_text(field: FieldInfo) -> str | None:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value in ((), [], frozenset(), {}, ""):
        return None
    if is_secret(field.annotation):
        return SHOWN_SECRET
    if isinstance(value, set | frozenset):
        return ",".join(sorted(map(str, value)))  # the same in every process
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    return str(value)


# ── faults ───────────────────────────────────────────────────────────────────


def _fault_lines(model: type[HandlerSettings], error: ValidationError, settings: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each fault; missing settings are reported with the handler that needs them."""
    for each in error.errors(include_url=False, include_input=False):
        if each["type"] == "missing":
            continue
        name = str(each["loc"][0]).upper() if each["loc"] else ""
        subject = f"{PREFIX}{name}" if name else f"{model.__name__}:"
        place = f" (value {each['loc'][1] + 1})" if len(each["loc"]) > 1 and isinstance(each["loc"][1], int) else ""
        yield f"{subject} {_without(settings, name, message_of(each))}{place}"


PLAIN_MESSAGES = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "decimal_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
}
"""What pydantic says of these, without how it parses texts."""


def message_of(error: ErrorDetails) -> str:
    """Return pydantic's message in the form of our own: `must be ...`."""
    if "error" in error.get("ctx", {}):
        return str(error["ctx"]["error"])
    message = PLAIN_MESSAGES.get(error["type"], error["msg"])
    for subject in ("Input", "String", "Value", "List", "Tuple", "Number", "URL", "Dictionary"):
        message = message.replace(f"{subject} should ", "must ", 1)
    return message if message.startswith(("must ", "needs ")) else f"is not valid: {message}"


def _without(settings: Mapping[str, str], name: str, message: str) -> str:
    """Return `message` without the value of a setting, which a validator may repeat."""
    value = settings.get(name, "")
    return message.replace(value, "…") if value else message
