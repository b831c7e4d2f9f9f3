"""The schemas of the OpenAPI document, as JSON Schema 2020-12 generated from the models of `service.api.schemas`."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from service.api import schemas
from service.domain.models.catalog import known_models
from service.domain.models.json_schema import json_schema

Schema = dict[str, Any]
ModelUse = tuple[type[BaseModel], JsonSchemaMode]
"""A model and its use: "validation" for a request, "serialization" for what the service writes."""

PREFIX = "#/components/schemas/"
COMPONENTS: tuple[type[BaseModel], ...] = (
    schemas.TaskRequest,
    schemas.NotifyEntry,
    schemas.Task,
    schemas.TaskWithPayload,
    schemas.TaskError,
    schemas.Usage,
    schemas.OutputItem,
    schemas.Artifact,
    schemas.Delivery,
    schemas.Event,
    schemas.HistoryEntry,
    schemas.Model,
    schemas.Problem,
    schemas.Fault,
)
"""The models with a name in the document. Other models are written where they are used."""


def generated_schemas(uses: Iterable[ModelUse], *, allow_off_peak: bool) -> tuple[dict[ModelUse, Schema], Schema]:
    """Return the schema of each model in `uses`, and every named schema by its name.

    `allow_off_peak` says whether the parameters of a task may set `off_peak`.
    """
    wanted = list(dict.fromkeys(uses))
    by_use, written = models_json_schema(
        wanted,
        ref_template=PREFIX + "{model}",
        schema_generator=DocumentSchemas,
        union_format="primitive_type_array",
    )
    definitions = written["$defs"]
    names = [model.__name__ for model in COMPONENTS]
    inline = {PREFIX + name: _inline(schema) for name, schema in definitions.items() if name not in names}
    params = {f"{name}.params": _params(name, allow_off_peak=allow_off_peak) for name in known_models()}
    named = {name: _tidied(definitions[name], inline) for name in names}
    named["TaskRequest"]["properties"]["params"] = {"anyOf": [{"$ref": PREFIX + name} for name in params]}
    return {use: _tidied(by_use[use], inline) for use in wanted}, params | named


class DocumentSchemas(GenerateJsonSchema):
    """Writes the schemas of models in the style of the document."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Write an extended component as that component and the added fields.

        Objects that the service writes are open: a later version may add keys.
        """
        written = super().model_schema(schema)
        if self.mode == "serialization" and written.get("additionalProperties") is False:
            del written["additionalProperties"]
        base = schema["cls"].__base__
        if base not in COMPONENTS:
            return written
        inherited = base.model_fields
        added = {name: each for name, each in written["properties"].items() if name not in inherited}
        required = [name for name in written["required"] if name in added]
        extension = {"type": "object", "properties": added, "required": required}
        return {"allOf": [self.generate_inner(base.__pydantic_core_schema__), extension]}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Write null as a second type where the schema has one type and no list of values."""
        inner = self.generate_inner(schema["schema"])
        if isinstance(inner.get("type"), str) and "enum" not in inner:
            return inner | {"type": [inner["type"], "null"]}
        return {"anyOf": [inner, {"type": "null"}]}

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """Leave out the discriminator: it could refer to named schemas only."""
        written = super().tagged_union_schema(schema)
        written.pop("discriminator", None)
        return written

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        """Write a single value without its type."""
        written = super().literal_schema(schema)
        return {"const": written["const"]} if "const" in written else written


def _params(model: str, *, allow_off_peak: bool) -> Schema:
    schema = json_schema(model, allow_off_peak=allow_off_peak)
    return {name: value for name, value in schema.items() if name != "$schema"}


def _inline(schema: Schema) -> Schema:
    """Return `schema` without the docstring of an enumeration, which describes the Python class."""
    return {name: value for name, value in schema.items() if name != "description" or "enum" not in schema}


def _tidied(schema: Any, inline: Mapping[str, Schema]) -> Any:
    """Return `schema` without titles and redundant keys, and with `inline` in place of references to it."""
    if isinstance(schema, list):
        return [_tidied(each, inline) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("$ref") in inline:
        beside = {name: value for name, value in schema.items() if name != "$ref"}
        return _tidied(inline[schema["$ref"]] | beside, inline)
    return {name: _tidied(value, inline) for name, value in schema.items() if not _redundant(name, value)}


def _redundant(name: str, value: Any) -> bool:
    return (name == "title" and isinstance(value, str)) or (name == "additionalProperties" and value is True)
