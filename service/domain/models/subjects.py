"""The type of a list of subjects: each has an id, which the prompt mentions as `@id`, and images of its own."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from service.domain.errors import Fault
from service.domain.models.base import ValidationContext, validation_error
from service.domain.models.media_checks import MAX_ITEMS_CHECKED, MediaList, MediaListCheck
from service.domain.models.value_checks import (
    JsonValue,
    nearest_name,
    printable_name,
    shorten,
    text_faults,
    wrong_type,
)

MAX_ID = 64
DESCRIPTIONS = {
    "id": "A name without blanks; the prompt mentions it as @name.",
    "images": "Images of the subject, by address or as base64 data URIs.",
    "voice_id": "The voice that the subject has, by its id at the provider.",
}
FIELDS = tuple(DESCRIPTIONS)

Subjects: TypeAlias = list[dict[str, Any]]
"""Objects with `id`, `images` (addresses, and descriptors in place of data URIs) and perhaps `voice_id`."""


@dataclass(frozen=True, kw_only=True)
class SubjectList:
    """A list of subjects, as an annotation of a parameter; all together have at most `max_images` images."""

    images: MediaList
    maximum: int
    max_images: int

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema that pydantic validates with."""
        del source, handler
        return core_schema.with_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON Schema, without the limit of all images together."""
        properties = {
            "id": {"type": "string", "minLength": 1, "maxLength": MAX_ID, "pattern": r"^\S+$"},
            "images": self.images.__get_pydantic_json_schema__(schema, handler),
            "voice_id": {"type": "string", "maxLength": MAX_ID},
        }
        properties = {name: each | {"description": DESCRIPTIONS[name]} for name, each in properties.items()}
        items = {
            "type": "object",
            "properties": properties,
            "required": ["id", "images"],
            "additionalProperties": False,
        }
        return {"type": "array", "minItems": 1, "maxItems": self.maximum, "items": items}

    def _validate(self, value: object, info: ValidationInfo[ValidationContext]) -> Subjects:
        name = info.field_name or ""
        if not isinstance(value, list):
            msg = f"must be a list of subjects, is {shorten(value)}: put it in [ ]"
            raise validation_error([Fault(loc=(), msg=msg)])
        check = _SubjectsCheck(kind=self, name=name, context=info.context)
        checked = [check.subject(index, each) for index, each in enumerate(value[:MAX_ITEMS_CHECKED])]
        faults = [*self._count_faults(value), *check.faults]
        if faults:
            raise validation_error(faults)
        return checked

    def _count_faults(self, value: list[JsonValue]) -> list[Fault]:
        faults, count = [], len(value)
        if not 1 <= count <= self.maximum:
            fix = f"remove {count - self.maximum}" if count else "add one"
            faults.append(Fault(loc=(), msg=f"must hold 1 to {self.maximum} subjects, holds {count}: {fix}"))
        images = [each.get("images") for each in value if isinstance(each, dict)]
        total = sum(len(each) for each in images if isinstance(each, list))
        if total > self.max_images:
            fix = f"remove {total - self.max_images}"
            msg = f"must hold at most {self.max_images} images over all subjects, holds {total}: {fix}"
            faults.append(Fault(loc=(), msg=msg))
        return faults


class _SubjectsCheck:
    """Checks the subjects of one list; blobs of inline images go into the context."""

    def __init__(self, *, kind: SubjectList, name: str, context: ValidationContext) -> None:
        self._kind, self._name, self._context = kind, name, context
        self._ids: set[str] = set()
        self.faults: list[Fault] = []

    def subject(self, index: int, value: JsonValue) -> dict[str, JsonValue]:
        """Return the subject with descriptors in place of its inline images; faults are added to `faults`."""
        if not isinstance(value, dict):
            self._add(wrong_type("an object with id and images", value), index)
            return {}
        for name in [each for each in value if each not in FIELDS][:MAX_ITEMS_CHECKED]:
            guess = nearest_name(name, FIELDS)
            fix = f"did you mean {guess}?" if guess else "remove it"
            self._add(f"unknown field of a subject: {fix}", index, printable_name(name))
        self._check_id(index, value)
        if "voice_id" in value:
            for message in text_faults(value["voice_id"], max_chars=MAX_ID, blank=True):
                self._add(message, index, "voice_id")
        return value | {"images": self._images(index, value)}

    def _check_id(self, index: int, value: dict[str, JsonValue]) -> None:
        found = value.get("id")
        messages = text_faults(found, max_chars=MAX_ID, blank=False) if "id" in value else ["is required"]
        if isinstance(found, str) and not messages and found.split() != [found]:
            messages.append("must not contain spaces: the prompt mentions it as @id")
        if isinstance(found, str) and not messages and found in self._ids:
            messages.append("is the id of another subject: choose another one")
        for message in messages:
            self._add(message, index, "id")
        if isinstance(found, str):
            self._ids.add(found)

    def _images(self, index: int, value: dict[str, JsonValue]) -> list[JsonValue]:
        if "images" not in value:
            self._add("is required", index, "images")
            return []
        place = f"{self._name}.{index}.images"
        check = MediaListCheck(kind=self._kind.images, name="images", context=self._context, place=place)
        checked = check.collect(value["images"])
        self.faults += [Fault(loc=(index, "images", *each.loc), msg=each.msg) for each in check.errors.faults]
        return checked

    def _add(self, message: str, *loc: str | int) -> None:
        self.faults.append(Fault(loc=loc, msg=message))
