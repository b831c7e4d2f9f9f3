"""The fields of the form for a new task, made from the JSON Schema of its model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from service.domain.models.catalog import MODELS
from service.domain.models.media_checks import MediaList
from service.domain.task import Json

Kind = Literal["media", "choice", "flag", "number", "address", "text", "long"]

LONG_TEXT = 300
"""Characters from which a text gets several lines."""

SAFE_INTEGER = 2**53
"""Browsers read larger numbers as floats: a field that allows them takes text."""

INLINE = ", by address or as base64 data URIs"
"""What descriptions say for programs: a form takes files."""

LABELS = {"bgm": "Music", "wm_position": "Watermark position", "wm_url": "Watermark image", "meta_data": "meta_data"}


@dataclass(frozen=True, kw_only=True)
class KeptItem:
    """An image or video that was given before: the value that chooses it again, and how it is called."""

    value: str = field(repr=False)
    label: str


@dataclass(frozen=True, kw_only=True)
class FormField:
    """One field of the form: what it takes, what is in it, and what is wrong with it.

    `value` is the text in it, `kept` the media beside newly chosen files. `more` are fields that few need.
    """

    name: str
    label: str
    kind: Kind
    help: str = ""
    required: bool = False
    default: str = ""
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    max_length: int | None = None
    fixed: bool = False
    accept: str = ""
    max_bytes: int | None = None
    more: bool = False
    value: str = ""
    kept: tuple[KeptItem, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def described_by(self) -> str:
        """Return the ids of the texts about the field."""
        ids = [f"{self.name}-help"] if self.help else []
        return " ".join([*([f"{self.name}-fault"] if self.faults else []), *ids])


def form_fields(model: str, schema: Json) -> list[FormField]:
    """Return the fields of the form for `model`, whose parameters have the JSON Schema `schema`."""
    required = set(schema.get("required", ()))
    return [_field(model, name, found, required=name in required) for name, found in schema["properties"].items()]


def _field(model: str, name: str, schema: Json, *, required: bool) -> FormField:
    default = schema.get("default")
    kind = _kind(schema)
    common: dict[str, Any] = {
        "name": name,
        "label": LABELS.get(name, name.replace("_", " ").capitalize()),
        "kind": kind,
        "help": str(schema.get("description", "")),
        "required": required,
        "default": _text(default),
        "value": _text(default),
    }
    if kind == "media":
        return FormField(**common | _media_limits(model, name, schema))
    return FormField(
        **common,
        choices=tuple(map(str, schema.get("enum", ()))),
        minimum=schema.get("minimum"),
        maximum=schema.get("maximum"),
        max_length=schema.get("maxLength"),
        fixed="const" in schema,
        more=not required
        and (name.startswith("wm_") or (schema.get("type") == "string" and "enum" not in schema) or _is_huge(schema)),
    )


def _kind(schema: Json) -> Kind:
    if schema.get("type") == "array":
        return "media"
    if "enum" in schema:
        return "choice"
    if schema.get("type") == "boolean":
        return "flag"
    if schema.get("type") in {"integer", "number"}:
        return "text" if _is_huge(schema) else "number"
    if schema.get("format") == "uri":
        return "address"
    return "text" if int(schema.get("maxLength", LONG_TEXT + 1)) <= LONG_TEXT else "long"


def _is_huge(schema: Json) -> bool:
    return abs(int(schema.get("maximum") or 0)) > SAFE_INTEGER


def _media_limits(model: str, name: str, schema: Json) -> Json:
    rules = next((each for each in MODELS[model].model_fields[name].metadata if isinstance(each, MediaList)), None)
    with_others = rules.maximum_with if rules else {}
    at_most = f"At most {schema['maxItems']}"
    at_most += "".join(f", {count} together with {other}" for other, count in with_others.items())
    return {
        "help": f"{str(schema.get('description', '')).replace(INLINE, '')} {at_most}.".strip(),
        "minimum": schema.get("minItems"),
        "maximum": schema.get("maxItems"),
        "accept": ",".join(rules.limits.formats) if rules else "",
        "max_bytes": (rules.limits.below_bytes or rules.limits.max_bytes) if rules else None,
    }


def _text(value: object) -> str:
    if value is None or value is False:
        return ""
    return "on" if value is True else str(value)


_INTEGER = re.compile(r"-?[0-9]{1,30}")


def read_value(found: FormField, text: str) -> tuple[object, str | None]:
    """Return the parameter that the text of a field means, None for one that is left out; and what is wrong with it.

    A value that equals the default is left out: the task then shows what was chosen.
    """
    if found.kind == "flag":
        on = bool(text)
        return (None if on == bool(found.default) else on), None
    plain = text.replace("\r\n", "\n")
    stripped = plain.strip()
    if not stripped or (stripped == found.default and not found.required):
        return None, None
    if "\0" in plain:
        return None, "must not contain the character U+0000"
    if found.kind == "number" or (found.kind == "text" and found.maximum is not None):
        if not _INTEGER.fullmatch(stripped):
            return None, "must be a whole number"
        return int(stripped), None
    return (plain if found.kind == "long" else stripped), None


def values_of(params: Mapping[str, object]) -> dict[str, str]:
    """Return the texts of the fields for parameters of another task, without its media."""
    return {name: _text(value) for name, value in params.items() if not isinstance(value, list)}


def addresses(text: str) -> list[str]:
    """Return the addresses in a text, one a line."""
    return [line.strip() for line in text.replace("\0", "?").splitlines() if line.strip()]


def item_faults(faults: Sequence[tuple[tuple[str | int, ...], str]], labels: Sequence[str]) -> tuple[str, ...]:
    """Return the messages for the items of a list; each begins with what the person calls the item."""
    found = []
    for loc, msg in faults:
        index = loc[0] if loc and isinstance(loc[0], int) else None
        label = labels[index] if index is not None and index < len(labels) else None
        found.append(f"{label}: {msg}" if label else msg)
    return tuple(found)
