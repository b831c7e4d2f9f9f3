"""The parameters of a model as JSON Schema 2020-12, for documentation and for validation by clients."""

import json
from collections.abc import Iterator
from functools import cache

from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from service.domain.media.limits import DURATION_SLACK, MB, MediaLimits
from service.domain.models.base import ModelParams
from service.domain.models.catalog import MODELS
from service.domain.models.media_checks import MediaList
from service.domain.models.parameter_types import Unavailable
from service.domain.models.subjects import SubjectList
from service.domain.models.value_checks import JsonValue


def json_schema(model: str, *, allow_off_peak: bool = False) -> dict[str, JsonValue]:
    """Return the schema of the `params` object of `model`; raise KeyError for an unknown model.

    Each call returns a copy. What a schema cannot express (the content of media, sizes in bytes) is in the
    descriptions.
    """
    schema: dict[str, JsonValue] = json.loads(_schema_text(model, allow_off_peak=allow_off_peak))
    return schema


@cache
def _schema_text(model: str, *, allow_off_peak: bool) -> str:
    """Return the schema as text, cached: generating it takes some 50 times as long as parsing it."""
    return json.dumps(_schema(MODELS[model], allow_unavailable=allow_off_peak))


class _Generator(GenerateJsonSchema):
    """Generates parameters in the order of the class, without titles, which would repeat the names."""

    def field_title_should_be_set(self, schema: object) -> bool:
        del schema
        return False

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:
        del parent_key
        return value


def _schema(model: type[ModelParams], *, allow_unavailable: bool) -> JsonSchemaValue:
    generated = model.model_json_schema(schema_generator=_Generator)
    conditions = []
    for name, field in model.model_fields.items():
        _complete(generated["properties"][name], field, allow_unavailable=allow_unavailable)
        conditions += list(_conditions(name, field))
    generated.pop("title")  # the name of the class
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": model.model_name}
    return head | generated | ({"allOf": conditions} if conditions else {})


def _complete(schema: JsonSchemaValue, field: FieldInfo, *, allow_unavailable: bool) -> None:
    """Add the media rules to the description of a parameter; allow only false for an unavailable flag."""
    for annotation in field.metadata:
        if isinstance(annotation, MediaList):
            schema["description"] = f"{field.description} {_media_rules(annotation.limits)}"
        if isinstance(annotation, SubjectList):
            limit = f"At most {annotation.max_images} images over all."
            schema["description"] = f"{field.description} {limit} {_media_rules(annotation.images.limits)}"
        if isinstance(annotation, Unavailable) and not allow_unavailable:
            schema["const"] = False


def _conditions(name: str, field: FieldInfo) -> Iterator[JsonSchemaValue]:
    """Yield the limits of one parameter that apply only together with another one."""
    for annotation in field.metadata:
        for other, maximum in annotation.maximum_with.items() if isinstance(annotation, MediaList) else ():
            yield {
                "if": {"required": [other], "properties": {other: {"type": "array", "items": {}, "minItems": 1}}},
                "then": {"properties": {name: {"maxItems": maximum}}},
            }


def _media_rules(limits: MediaLimits) -> str:
    formats = ", ".join(dict.fromkeys(limits.formats.values()))
    sizes = f"at most {limits.max_bytes // MB} MB"
    if limits.below_bytes is not None:
        sizes += f", less than {limits.below_bytes // MB} MB inline"
    ratio = f"ratio from 1:{limits.max_ratio} to {limits.max_ratio}:1"
    rules = f"Formats: {formats}; at least {limits.min_side}x{limits.min_side} pixels, {ratio}, {sizes}."
    slack = f" A length may be up to {DURATION_SLACK:g} seconds above its limit, for the rounding of the container."
    return rules + (slack if limits.max_seconds else "")
