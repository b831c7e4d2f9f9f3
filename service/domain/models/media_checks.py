"""Check a list of images or videos, each an address or a base64 data URI, and take the inline ones out.

An inline value is decoded once; what stays in the parameters is a descriptor of it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain.blob import Blob
from service.domain.errors import Fault
from service.domain.media.file_headers import image_size, sniff
from service.domain.media.limits import (
    DataUri,
    ImageFacts,
    Inspector,
    MediaLimits,
    Unreadable,
    VideoFacts,
    decode,
    decoded_size,
    duration_faults,
    encode,
    format_faults,
    frame_faults,
    listed,
    parse_data_uri,
    size_faults,
)
from service.domain.models.parameter_types import JsonValue, MediaList
from service.domain.models.value_checks import address_faults, shown

ITEMS_LOOKED_AT = 16  # past every documented maximum; a list of a million faults is one fault

SCHEME_CHARS = 16

_DESCRIPTOR = {"media_type", "bytes", "sha256"}
_NOT_BASE64 = (
    "is not strict base64: "
    "use the standard alphabet (+ and /) with = padding, and no spaces, line breaks or percent signs"
)

Loc = tuple[str | int, ...]


@dataclass(kw_only=True)
class Findings:
    """What a check has found so far."""

    faults: list[Fault] = field(default_factory=list)
    inputs: list[Blob] = field(default_factory=list)

    def add(self, loc: Loc, messages: list[str]) -> bool:
        """Note what is wrong at `loc`; return whether anything was."""
        self.faults.extend(Fault(loc=loc, msg=message) for message in messages)
        return bool(messages)


@dataclass(frozen=True, kw_only=True)
class MediaCheck:
    """Check the list called `name` among the `given` parameters; `inspect` opens what is inline."""

    kind: MediaList
    name: str
    given: Mapping[str, JsonValue]
    found: Findings
    inspect: Inspector | None

    def run(self) -> JsonValue:
        """Return the list with descriptors in place of inline media; faults and inputs go into the findings."""
        items = self.given[self.name]
        loc = ("params", self.name)
        if not isinstance(items, list):
            self.found.add(loc, [f"must be a list of {self.name}, is {shown(items)}: put it in [ ]"])
            return items
        self.found.add(loc, self._count_faults(len(items)))
        checked = [self._item(index, item, len(items)) for index, item in enumerate(items[:ITEMS_LOOKED_AT])]
        return checked + items[ITEMS_LOOKED_AT:]

    def _count_faults(self, count: int) -> list[str]:
        kind, most, why = self.kind, self.kind.maximum, ""
        for other, lower in kind.maximum_with.items():
            if isinstance(self.given.get(other), list) and self.given[other] and lower < most:
                most, why = lower, f" when {other} are given"
        if kind.minimum <= count <= most:
            return []
        mend = f"remove {count - most}" if count > most else "add one"
        return [f"must hold {kind.minimum} to {most} {self.name}{why}, holds {count}: {mend}"]

    def _item(self, index: int, item: JsonValue, count: int) -> JsonValue:
        loc = ("params", self.name, index)
        if isinstance(item, str) and item[:5].lower() == "data:":
            place = f"{self.name}.{index}"
            return self._inline(loc, place, item, count)
        if isinstance(item, str) and "://" in item[:SCHEME_CHARS]:
            self.found.add(loc, address_faults(item))
        else:
            self.found.add(loc, [self._neither(item)])
        return item

    def _neither(self, item: JsonValue) -> str:
        example = next(iter(self.kind.limits.formats))
        return (
            f"must be an http or https address or a base64 data URI, is {shown(item)}: "
            f"write https://... or put data:{example};base64, before the base64"
        )

    def _inline(self, loc: Loc, place: str, item: str, count: int) -> JsonValue:
        limits = self.kind.limits
        uri = parse_data_uri(item)
        if self.found.add(loc, _head_faults(item, uri, limits)) or uri is None:
            return None
        if self.found.add(loc, size_faults(decoded_size(item, uri), limits)):
            return None
        try:
            data = decode(item, uri)
        except ValueError:
            self.found.add(loc, [_NOT_BASE64])
            return None
        if self.found.add(loc, self._content_faults(data, uri.media_type, count)):
            return None
        taken = Blob(place=place, media_type=uri.media_type, sha256=hashlib.sha256(data).hexdigest(), data=data)
        self.found.inputs.append(taken)
        return describe(taken)

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
        if self.kind.limits.kind == "video":
            return self.inspect.video(data) if self.inspect else None
        facts = self.inspect.image(data) if self.inspect else None
        return facts or _header_facts(data)


def _fact_faults(facts: ImageFacts | VideoFacts, limits: MediaLimits, count: int) -> list[str]:
    faults = frame_faults(facts, limits)
    return faults + (duration_faults(facts, limits, count) if isinstance(facts, VideoFacts) else [])


def _head_faults(item: str, uri: DataUri | None, limits: MediaLimits) -> list[str]:
    types = tuple(limits.formats)
    if uri is None:
        return [f"must begin like data:{types[0]};base64, but begins {shown(item)}: mend that prefix"]
    if uri.media_type not in limits.formats:
        return [f"must be declared {listed(types)}, is declared {shown(uri.media_type)}: convert the {limits.kind}"]
    return []


def _header_facts(data: bytes) -> ImageFacts:
    """Return what an image's own header says; without a library to open it, this much is still checked."""
    size = image_size(data)
    if size is None:
        raise Unreadable("its header is damaged")
    return ImageFacts(format=sniff(data) or "", width=size[0], height=size[1])


def describe(taken: Blob) -> dict[str, JsonValue]:
    """Return what stays in the parameters in place of an inline medium."""
    return {"media_type": taken.media_type, "bytes": len(taken.data), "sha256": taken.sha256}


def restored(value: JsonValue, inputs: Mapping[str, Blob], place: str = "") -> JsonValue:
    """Return `value` with data URIs in place of descriptors; raise KeyError with the place of a missing input."""
    if isinstance(value, dict):
        if value.keys() == _DESCRIPTOR:
            taken = inputs[place]
            return encode(taken.media_type, taken.data)
        return {key: restored(each, inputs, _below(place, key)) for key, each in value.items()}
    if isinstance(value, list):
        return [restored(each, inputs, _below(place, index)) for index, each in enumerate(value)]
    return value


def _below(place: str, key: str | int) -> str:
    return f"{place}.{key}" if place else str(key)
