"""Generate the schemas of the OpenAPI document, JSON Schema 2020-12, from the models of `service.api.schemas`."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from service.api import (
    circuit_schemas,
    content_schemas,
    count_schemas,
    endpoint_request_schemas,
    endpoint_schemas,
    event_schemas,
    handler_schemas,
    replay_schemas,
    request_schemas,
    schemas,
    usage_schemas,
    video_schemas,
    vtrix_schemas,
)
from service.domain.models.catalog import known_models
from service.domain.models.json_schema import json_schema

Schema = dict[str, Any]
ModelUse = tuple[type[BaseModel], JsonSchemaMode]
"""A model and its use: "validation" for a request, "serialization" for a body that the service writes."""

PREFIX = "#/components/schemas/"
COMPONENTS: tuple[type[BaseModel], ...] = (
    request_schemas.TaskRequest,
    request_schemas.ResubmitRequest,
    request_schemas.NotifyEntry,
    request_schemas.WebhookEntry,
    request_schemas.HandlerEntry,
    schemas.Task,
    schemas.TaskWithPayload,
    schemas.TaskWithArtifact,
    schemas.TaskPage,
    count_schemas.StatusCount,
    count_schemas.StatusCounts,
    schemas.TaskError,
    schemas.Usage,
    schemas.OutputItem,
    schemas.Artifact,
    schemas.Delivery,
    schemas.DeliveryPage,
    replay_schemas.ReplayRequest,
    replay_schemas.ReplayReport,
    content_schemas.LinkRequest,
    content_schemas.Link,
    schemas.LoginLink,
    endpoint_request_schemas.EndpointRequest,
    endpoint_request_schemas.EndpointPatch,
    endpoint_request_schemas.RotateRequest,
    endpoint_request_schemas.MissedRequest,
    endpoint_schemas.Endpoint,
    endpoint_schemas.EndpointWithSecret,
    endpoint_schemas.EndpointHealth,
    endpoint_schemas.EndpointPage,
    endpoint_schemas.EndpointTest,
    endpoint_schemas.MissedReport,
    event_schemas.StreamedEvent,
    circuit_schemas.Circuit,
    circuit_schemas.CircuitPage,
    handler_schemas.Handler,
    handler_schemas.HandlerList,
    handler_schemas.HandlerTestRequest,
    handler_schemas.HandlerTest,
    schemas.Event,
    schemas.EventData,
    schemas.HistoryEntry,
    schemas.CreatedEntry,
    schemas.WaitEntry,
    schemas.EventEntry,
    schemas.CallbackEntry,
    schemas.PollEntry,
    schemas.DeliveryEntry,
    schemas.AttemptEntry,
    schemas.HistoryPage,
    usage_schemas.UsageSums,
    usage_schemas.UsageEntry,
    usage_schemas.UsageReport,
    schemas.Model,
    schemas.ModelList,
    schemas.ProcessState,
    schemas.Problem,
    schemas.Fault,
    vtrix_schemas.GenerationRequest,
    vtrix_schemas.GenerationTask,
    vtrix_schemas.GenerationContent,
    vtrix_schemas.GatewayError,
    vtrix_schemas.SkillModels,
    vtrix_schemas.SkillModel,
    vtrix_schemas.SkillModelSpec,
    vtrix_schemas.SkillParameter,
    vtrix_schemas.SkillError,
    video_schemas.VideoRequest,
    video_schemas.VideoForm,
    video_schemas.Video,
    video_schemas.VideoList,
    video_schemas.VideoDeleted,
    video_schemas.McpMessage,
    video_schemas.OpenAiError,
)
"""The models with a name in the document. Other models are inlined where they are used."""


def generated_schemas(uses: Iterable[ModelUse], *, allow_off_peak: bool) -> tuple[dict[ModelUse, Schema], Schema]:
    """Return the schema of each model in `uses`, and every named schema by its name.

    `allow_off_peak`: whether the parameters of a task may set `off_peak`.
    """
    distinct = list(dict.fromkeys(uses))
    by_use, generated = models_json_schema(
        distinct,
        ref_template=PREFIX + "{model}",
        schema_generator=DocumentSchemas,
        union_format="primitive_type_array",
    )
    definitions = generated["$defs"]
    names = [model.__name__ for model in COMPONENTS]
    inline = {PREFIX + name: schema for name, schema in definitions.items() if name not in names}
    for schema in inline.values():
        if "enum" in schema:
            schema.pop("description", None)  # the docstring of the enumeration, which describes the Python class
    named: Schema = {}
    for model in known_models():
        params = json_schema(model, allow_off_peak=allow_off_peak)
        named[f"{model}.params"] = _with_described_defaults(params)
    params_refs = [{"$ref": PREFIX + name} for name in named]
    named |= {name: _inlined(definitions[name], inline) for name in names}
    params_schema = params_refs[0] if len(params_refs) == 1 else {"anyOf": params_refs}
    named["TaskRequest"]["properties"]["params"] = params_schema
    named["GenerationRequest"]["properties"]["input"]["items"]["properties"]["params"] = params_schema
    return {use: _inlined(by_use[use], inline) for use in distinct}, named


def _with_described_defaults(params: Mapping[str, Any]) -> Schema:
    """Return the schema of `params` with the defaults in its descriptions.

    Generators take a default as a promise that the parameter is there: openapi-typescript makes it required, and other
    clients send it with every request.
    """
    properties = {}
    for name, schema in params["properties"].items():
        described = {key: value for key, value in schema.items() if key != "default"}
        if "default" in schema:
            described["description"] += f" Default: {json.dumps(schema['default'])}."
        properties[name] = described
    return {key: value for key, value in params.items() if key != "$schema"} | {"properties": properties}


class DocumentSchemas(GenerateJsonSchema):
    """Generates the schemas of models for the document."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Write an extended component as that component and the added fields.

        Objects that the service writes may have more keys: a later version may add some.
        """
        generated = super().model_schema(schema)
        if self.mode == "serialization" and generated.get("additionalProperties") is False:
            del generated["additionalProperties"]
        base = schema["cls"].__base__
        if base not in COMPONENTS:
            return generated
        added = {name: each for name, each in generated["properties"].items() if name not in base.model_fields}
        optional_before = {name for name, each in base.model_fields.items() if not each.is_required()}
        required = [name for name in generated["required"] if name in added or name in optional_before]
        extension = {"type": "object", "properties": added, **({"required": required} if required else {})}
        described = {"description": generated["description"]} if "description" in generated else {}
        return described | {"allOf": [self.generate_inner(base.__pydantic_core_schema__), extension]}


def _inlined(schema: Any, inline: Mapping[str, Schema]) -> Any:
    """Return `schema` without titles, and with the schemas of `inline` in place of references to them."""
    if isinstance(schema, list):
        return [_inlined(each, inline) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("$ref") in inline:
        siblings = {name: value for name, value in schema.items() if name != "$ref"}
        return _inlined(inline[schema["$ref"]] | siblings, inline)
    plain = {
        name: _inlined(value, inline)
        for name, value in schema.items()
        if not (name == "title" and isinstance(value, str))
    }
    return _with_null_as_a_type(plain)


def _with_null_as_a_type(schema: Schema) -> Schema:
    """Return `anyOf` of a plain schema and null as that schema with two types.

    Several generators skip a field with the former. openapi-python-client makes many types of an enumeration with null.
    """
    match schema:
        case {"anyOf": [{"type": str(kind)} as value, {"type": "null"}], **siblings} if "enum" not in value:
            merged: Schema = value | siblings | {"type": [kind, "null"]}
            return merged
    return schema
