"""HTTP paths, methods, parameters and JSON fields, as the running service's own document tells them."""

from tests.unit.frozen.provider import Json
from tests.unit.frozen.snapshots import assert_frozen

PROSE = {"title", "description", "summary", "example", "examples"}
UNORDERED = {"enum", "required"}
NAMED = {"properties", "schemas", "paths", "responses", "headers", "webhooks", "$defs", "securitySchemes", "content"}
"""Keys of objects whose own keys are names."""


def shape(value: object, *, names: bool = False) -> object:
    """Return a document without its prose; `names` says that the keys of `value` are names, and all are kept."""
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
