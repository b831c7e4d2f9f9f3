"""HTTP paths, methods, parameters and JSON fields in the OpenAPI document of a running service."""

from tests.unit.frozen.provider import Json
from tests.unit.frozen.snapshots import assert_frozen

PROSE = {"title", "description", "summary", "example", "examples"}
UNORDERED = {"enum", "required"}
NAMED = {"properties", "schemas", "paths", "responses", "headers", "webhooks", "$defs", "securitySchemes", "content"}
"""Keys of objects whose own keys are names."""


def shape(value: object, *, names: bool = False) -> object:
    """Return a document without descriptions; with `names` the keys of `value` are names and all stay."""
    if isinstance(value, dict):
        return {key: _inner(key, inner, names=names) for key, inner in value.items() if names or key not in PROSE}
    return [shape(one) for one in value] if isinstance(value, list) else value


def _inner(key: str, value: object, *, names: bool) -> object:
    if not names and key in UNORDERED and isinstance(value, list):
        return sorted(value, key=repr)
    return shape(value, names=not names and key in NAMED)


def test_document(vtrix: Json) -> None:
    """Every path, method, parameter, status, field and type."""
    assert_frozen("openapi.json", shape(vtrix["answers"]["openapi"]["body"]))


def test_models(vtrix: Json) -> None:
    """Every model, and the name and limits of each parameter."""
    assert_frozen("models.json", shape(vtrix["answers"]["models"]["body"]))
