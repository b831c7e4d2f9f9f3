"""The type of a list of images or videos, each an address or a base64 data URI.

The whole list is one type, because its limits depend on the other parameters and on how many items it holds. An
inline item is decoded once; a descriptor replaces it in the parameters, and its bytes become a blob.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from service.domain.blob import Blob
from service.domain.errors import Fault
from service.domain.media.file_headers import image_size, sniff
from service.domain.media.limits import (
    DataUri,
    ImageFacts,
    MediaLimits,
    Unreadable,
    VideoFacts,
    decode,
    decoded_size,
    duration_faults,
    format_faults,
    frame_faults,
    listed,
    parse_data_uri,
    size_faults,
)
from service.domain.models.base import ValidationContext, validation_error
from service.domain.models.media_descriptors import describe
from service.domain.models.parameter_types import ADDRESS_SCHEMA
from service.domain.models.value_checks import JsonValue, address_faults, shorten

MAX_ITEMS_CHECKED = 16
"""Items checked of a list, above every documented maximum: a million invalid items are one fault."""

SCHEME_CHARS = 16

_NOT_BASE64 = (
    "is not strict base64: "
    "use the standard alphabet (+ and /) with = padding, and no spaces, line breaks or percent signs"
)

MediaItems: TypeAlias = list[str | dict[str, str | int]]
"""Addresses, and the descriptors that replace data URIs."""


@dataclass(frozen=True, kw_only=True)
class MediaList:
    """A list of images or videos, as an annotation of a parameter.

    `maximum_with` lowers the maximum while the named parameter is a list that is not empty.
    """

    limits: MediaLimits
    minimum: int
    maximum: int
    maximum_with: Mapping[str, int] = field(default_factory=dict)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema that pydantic validates with."""
        del source, handler
        return core_schema.with_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON Schema, without the limits that depend on other parameters."""
        del schema, handler
        types = "|".join(name.replace(".", r"\.") for name in self.limits.formats)
        inline = {"type": "string", "pattern": f"^data:({types});base64,"}
        return {
            "type": "array",
            "minItems": self.minimum,
            "maxItems": self.maximum,
            "items": {"anyOf": [dict(ADDRESS_SCHEMA), inline]},
        }

    def _validate(self, items: object, info: ValidationInfo[ValidationContext]) -> list[JsonValue]:
        return MediaListCheck(kind=self, name=info.field_name or "", context=info.context).run(items)


@dataclass(kw_only=True)
class MediaErrors:
    """Every fault of one list, each with the index of its item."""

    faults: list[Fault] = field(default_factory=list)

    def add(self, messages: list[str], *loc: int) -> bool:
        """Add a fault at `loc` for each message; return whether there was one."""
        self.faults.extend(Fault(loc=loc, msg=message) for message in messages)
        return bool(messages)


@dataclass(frozen=True, kw_only=True)
class MediaListCheck:
    """Check one value of the parameter `name`; blobs go into the context, under `place` or the name."""

    kind: MediaList
    name: str
    context: ValidationContext
    place: str = ""
    errors: MediaErrors = field(default_factory=MediaErrors)

    def run(self, items: object) -> list[JsonValue]:
        """Return the list with descriptors in place of inline media; raise ValidationError with every fault."""
        checked = self.collect(items)
        if self.errors.faults:
            raise validation_error(self.errors.faults)
        return checked

    def collect(self, items: object) -> list[JsonValue]:
        """Return the list with descriptors in place of inline media; every fault is in `errors`."""
        if not isinstance(items, list):
            self.errors.add([f"must be a list of {self.name}, is {shorten(items)}: put it in [ ]"])
            return []
        self.errors.add(self._count_faults(len(items)))
        return [self._item(index, item, len(items)) for index, item in enumerate(items[:MAX_ITEMS_CHECKED])]

    def _count_faults(self, count: int) -> list[str]:
        kind, maximum, reason = self.kind, self.kind.maximum, ""
        for other, lower in kind.maximum_with.items():
            value = self.context.given.get(other)
            if isinstance(value, list) and value and lower < maximum:
                maximum, reason = lower, f" when {other} are given"
        if kind.minimum <= count <= maximum:
            return []
        fix = f"remove {count - maximum}" if count > maximum else "add one"
        return [f"must hold {kind.minimum} to {maximum} {self.name}{reason}, holds {count}: {fix}"]

    def _item(self, index: int, item: JsonValue, count: int) -> JsonValue:
        if isinstance(item, str) and item[:5].lower() == "data:":
            return self._inline(index, item, count)
        if isinstance(item, str) and "://" in item[:SCHEME_CHARS]:
            self.errors.add(address_faults(item), index)
        else:
            self.errors.add([self._neither(item)], index)
        return item

    def _neither(self, item: JsonValue) -> str:
        example = next(iter(self.kind.limits.formats))
        return (
            f"must be an http or https address or a base64 data URI, is {shorten(item)}: "
            f"write https://... or put data:{example};base64, before the base64"
        )

    def _inline(self, index: int, item: str, count: int) -> JsonValue:
        limits = self.kind.limits
        uri = parse_data_uri(item)
        if self.errors.add(_prefix_faults(item, uri, limits), index) or uri is None:
            return None
        if self.errors.add(size_faults(decoded_size(item, uri), limits), index):
            return None
        try:
            data = decode(item, uri)
        except ValueError:
            self.errors.add([_NOT_BASE64], index)
            return None
        if self.errors.add(self._content_faults(data, uri.media_type, count), index):
            return None
        digest = hashlib.sha256(data).hexdigest()
        blob = Blob(place=f"{self.place or self.name}.{index}", media_type=uri.media_type, sha256=digest, data=data)
        self.context.blobs.append(blob)
        return describe(blob)

    def _content_faults(self, data: bytes, media_type: str, count: int) -> list[str]:
        limits, form = self.kind.limits, sniff(data)
        faults = format_faults(media_type, form, limits)
        if form not in limits.formats.values():
            return faults
        try:
            facts = self._open(data)
        except Unreadable as error:
            return [*faults, f"cannot be opened: {error.reason}: send a whole, undamaged {limits.kind}"]
        return faults + (_fact_faults(facts, limits, count) if facts else [])

    def _open(self, data: bytes) -> ImageFacts | VideoFacts | None:
        inspect = self.context.inspect
        if self.kind.limits.kind == "video":
            return inspect.video(data) if inspect else None
        facts = inspect.image(data) if inspect else None
        return facts or _header_facts(data)


def _fact_faults(facts: ImageFacts | VideoFacts, limits: MediaLimits, count: int) -> list[str]:
    faults = frame_faults(facts, limits)
    return faults + (duration_faults(facts, limits, count) if isinstance(facts, VideoFacts) else [])


def _prefix_faults(item: str, uri: DataUri | None, limits: MediaLimits) -> list[str]:
    types = tuple(limits.formats)
    if uri is None:
        return [f"must begin like data:{types[0]};base64, but begins {shorten(item)}: correct that prefix"]
    if uri.media_type not in limits.formats:
        return [f"must be declared {listed(types)}, is declared {shorten(uri.media_type)}: convert the {limits.kind}"]
    return []


def _header_facts(data: bytes) -> ImageFacts:
    """Return the facts in the header of an image, the only check without a library that opens images."""
    size = image_size(data)
    if size is None:
        raise Unreadable("its header is damaged")
    return ImageFacts(format=sniff(data) or "", width=size[0], height=size[1])
