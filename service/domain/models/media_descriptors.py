"""Descriptors, which replace inline media in the parameters, and the restoration of the media."""

from collections.abc import Iterator, Mapping
from typing import Any

from service.domain.blob import Blob
from service.domain.media.limits import InlineMedia
from service.domain.models.value_checks import JsonValue

_DESCRIPTOR_KEYS = {"media_type", "bytes", "sha256"}


def describe(blob: Blob) -> dict[str, JsonValue]:
    """Return the descriptor of an inline medium."""
    return {"media_type": blob.media_type, "bytes": len(blob.data), "sha256": blob.sha256}


def is_descriptor(value: Mapping[str, object]) -> bool:
    """Return whether an object has the keys of a descriptor."""
    return value.keys() == _DESCRIPTOR_KEYS


def descriptors(value: object, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each descriptor in parameters with its place, such as `images.0` and `subjects.1.images.0`."""
    if isinstance(value, dict):
        if place and is_descriptor(value):
            yield place, value
            return
        for name, each in value.items():
            yield from descriptors(each, f"{place}.{name}" if place else name)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from descriptors(each, f"{place}.{index}")


def restore(params: Mapping[str, JsonValue], blobs: Mapping[str, Blob], *, data_uris: bool = False) -> dict[str, Any]:
    """Return `params` with the media in place of their descriptors; `blobs` are keyed by place.

    They are InlineMedia, which are encoded when the request to the provider is written, or with `data_uris` the texts
    that a client sends. Raise KeyError with the place of a blob that is not stored.
    """
    return {name: _restored(value, blobs, name, data_uris=data_uris) for name, value in params.items()}


def _restored(value: JsonValue, blobs: Mapping[str, Blob], place: str, *, data_uris: bool) -> object:
    if isinstance(value, dict):
        if is_descriptor(value):
            blob = blobs[place]
            media = InlineMedia(media_type=blob.media_type, data=blob.data)
            return media.data_uri() if data_uris else media
        return {key: _restored(each, blobs, f"{place}.{key}", data_uris=data_uris) for key, each in value.items()}
    if isinstance(value, list):
        return [_restored(each, blobs, f"{place}.{at}", data_uris=data_uris) for at, each in enumerate(value)]
    return value
