"""A model's parameters as JSON Schema 2020-12, for people and for clients that check before they send."""

from typing import assert_never

from service.domain.media.limits import MB, MediaLimits
from service.domain.models.parameter_types import (
    Address,
    Choice,
    Flag,
    JsonValue,
    Kind,
    MediaList,
    Model,
    Parameter,
    Text,
    Whole,
)
from service.domain.models.value_checks import ADDRESS_CHARS

Schema = dict[str, JsonValue]

_ADDRESS: Schema = {"type": "string", "format": "uri", "pattern": r"^https?://[^\s/?#]\S*$", "maxLength": ADDRESS_CHARS}


def schema_of(model: Model, *, allow_unavailable: bool) -> Schema:
    """Return the schema of the `params` object of `model`."""
    schema: Schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": model.name,
        "description": model.about,
        "type": "object",
        "properties": {each.name: _property(each, allow_unavailable=allow_unavailable) for each in model.parameters},
        "required": [each.name for each in model.parameters if each.required],
        "additionalProperties": False,
    }
    conditions: list[JsonValue] = [rule for each in model.parameters for rule in _conditions(each)]
    return schema | ({"allOf": conditions} if conditions else {})


def _property(parameter: Parameter, *, allow_unavailable: bool) -> Schema:
    schema = _kind(parameter.kind, allow_unavailable=allow_unavailable) | {"description": _about(parameter)}
    return schema if parameter.default is None else schema | {"default": parameter.default}


def _kind(kind: Kind, *, allow_unavailable: bool) -> Schema:
    match kind:
        case Text():
            return _text(kind)
        case Whole():
            return {"type": "integer", "minimum": kind.minimum, "maximum": kind.maximum}
        case Flag():
            refused = kind.unavailable and not allow_unavailable
            return {"type": "boolean", "const": False} if refused else {"type": "boolean"}
        case Choice():
            return {"type": "string", "enum": list(kind.values)}
        case Address():
            return dict(_ADDRESS)
        case MediaList():
            return _media_list(kind)
        case _:  # pragma: no cover - mypy proves that there is no other kind
            assert_never(kind)


def _text(kind: Text) -> Schema:
    schema: Schema = {"type": "string"}
    if kind.max_chars is not None:
        schema["maxLength"] = kind.max_chars
    return schema if kind.blank else schema | {"minLength": 1, "pattern": r"\S"}


def _media_list(kind: MediaList) -> Schema:
    types = "|".join(name.replace(".", r"\.") for name in kind.limits.formats)
    inline: Schema = {"type": "string", "pattern": f"^data:({types});base64,"}
    return {
        "type": "array",
        "minItems": kind.minimum,
        "maxItems": kind.maximum,
        "items": {"anyOf": [dict(_ADDRESS), inline]},
    }


def _conditions(parameter: Parameter) -> list[Schema]:
    if not isinstance(parameter.kind, MediaList):
        return []
    return [
        {
            "if": {"required": [other], "properties": {other: {"type": "array", "minItems": 1}}},
            "then": {"properties": {parameter.name: {"maxItems": maximum}}},
        }
        for other, maximum in parameter.kind.maximum_with.items()
    ]


def _about(parameter: Parameter) -> str:
    if not isinstance(parameter.kind, MediaList):
        return parameter.about
    return f"{parameter.about} {_media_rules(parameter.kind.limits)}"


def _media_rules(limits: MediaLimits) -> str:
    formats = ", ".join(dict.fromkeys(limits.formats.values()))
    sizes = f"at most {limits.max_bytes // MB} MB"
    if limits.below_bytes is not None:
        sizes += f", less than {limits.below_bytes // MB} MB inline"
    ratio = f"ratio from 1:{limits.max_ratio} to {limits.max_ratio}:1"
    return f"Formats: {formats}; at least {limits.min_side}x{limits.min_side} pixels, {ratio}, {sizes}."
