"""The fields of the form for a new task, made from the JSON Schema of its model."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from service.domain.models.catalog import MODELS
from service.domain.models.media_checks import MediaList
from service.domain.models.subjects import SubjectList
from service.domain.task import Json

Kind = Literal["media", "choice", "flag", "number", "address", "text", "long", "json"]

JSON_FIELD = "params"
"""The field that has all parameters of a model that is not known here."""

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

    `value` is the text in it, `kept` the media beside newly chosen files, `gone` the places of those that are deleted.
    `more` are fields that few need. A field of an object in a list has the name of its place (`subjects.0.id`), and
    `item`: the list and the index in it. `together` is how many media all such fields may have, `maximum_with` how many
    this one may have beside those of another field.
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
    gone: tuple[str, ...] = ()
    together: int | None = None
    maximum_with: tuple[tuple[str, int], ...] = ()
    faults: tuple[str, ...] = ()
    item: tuple[str, int] | None = None

    @property
    def key(self) -> str:
        """Return the name of the parameter, or of the property of an object in a list."""
        return self.name.rpartition(".")[2]

    @property
    def group(self) -> str:
        """Return what the object is called of which this is a property, such as `Subject 1`."""
        return f"{_label(self.item[0]).removesuffix('s')} {self.item[1] + 1}" if self.item else ""

    @property
    def counted(self) -> bool:
        """Return whether the page shows how many characters the field has."""
        return self.max_length is not None and self.kind in {"long", "text"}

    @property
    def described_by(self) -> str:
        """Return the ids of the texts about the field."""
        ids = [f"{self.name}-help"] if self.help else []
        ids += [f"{self.name}-gone"] if self.gone else []
        ids += [f"{self.name}-count"] if self.counted else []
        return " ".join([*([f"{self.name}-fault"] if self.faults else []), *ids])


def form_fields(model: str, schema: Json) -> list[FormField]:
    """Return the fields of the form for `model`, whose parameters have the JSON Schema `schema`."""
    required = set(schema.get("required", ()))
    found: list[FormField] = []
    for name, each in schema["properties"].items():
        if each.get("type") == "array" and each["items"].get("type") == "object":
            found += _object_fields(model, name, each, required=name in required)
        else:
            found.append(_field(model, name, each, required=name in required))
    return found


def _object_fields(model: str, name: str, schema: Json, *, required: bool) -> list[FormField]:
    """Return the fields of all objects that a list may have; a form without a script cannot add any."""
    objects, needed = schema["items"], schema["items"].get("required", ())
    found = []
    for index in range(schema["maxItems"]):
        for key, each in objects["properties"].items():
            one = _field(model, f"{name}.{index}.{key}", each, required=required and not index and key in needed)
            found.append(replace(one, item=(name, index), more=False))
    return found


def _label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " ").capitalize())


def _field(model: str, name: str, schema: Json, *, required: bool) -> FormField:
    default = schema.get("default")
    kind = _kind(schema)
    common: dict[str, Any] = {
        "name": name,
        "label": _label(name.rpartition(".")[2]),
        "kind": kind,
        "help": str(schema.get("description", "")),
        "required": required,
        "default": text_of(default),
        "value": text_of(default),
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
    found = MODELS[model].model_fields[name.partition(".")[0]].metadata
    together = next((rule.max_images for rule in found if isinstance(rule, SubjectList)), None)
    rules = next(filter(None, map(_media_list, found)), None)
    with_others = rules.maximum_with if rules else {}
    at_most = f"At most {schema['maxItems']}"
    at_most += f", and {together} over all {_label(name.partition('.')[0]).lower()}" if together else ""
    at_most += "".join(f", {count} together with {other}" for other, count in with_others.items())
    return {
        "help": f"{str(schema.get('description', '')).replace(INLINE, '')} {at_most}.".strip(),
        "minimum": schema.get("minItems"),
        "maximum": schema.get("maxItems"),
        "together": together,
        "maximum_with": tuple(with_others.items()),
        "accept": ",".join(rules.limits.formats) if rules else "",
        "max_bytes": (rules.limits.below_bytes or rules.limits.max_bytes) if rules else None,
    }


def _media_list(rule: object) -> MediaList | None:
    if isinstance(rule, SubjectList):
        return rule.images
    return rule if isinstance(rule, MediaList) else None


def text_of(value: object) -> str:
    """Return the text of a field for the value of a parameter."""
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


def value_in(found: FormField, params: Mapping[str, object]) -> object:
    """Return the value that a field has in parameters, None if it has none."""
    if found.item is None:
        return params.get(found.name)
    name, index = found.item
    objects = params.get(name)
    one = objects[index] if isinstance(objects, list) and index < len(objects) else None
    return one.get(found.key) if isinstance(one, dict) else None


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
