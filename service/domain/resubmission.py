"""The request of a task, made again with changes. Only computes."""

from base64 import b64encode
from collections.abc import Mapping

from service.domain.blob import Blob
from service.domain.errors import Conflict
from service.domain.task import Json

SEPARATE = ("payload", "meta_data")
"""Parameters that are stored as texts beside the others."""


def changed_params(params: Json, blobs: Mapping[str, Blob], changes: Json) -> Json:
    """Return the parameters of a stored task as a client would send them, with `changes`; null removes one.

    Stored media become data URIs again. Raises Conflict for one that is needed and gone.
    """
    found: Json = {}
    for name, value in params.items():
        if name not in changes:
            items = value if isinstance(value, list) else None
            found[name] = value if items is None else [_item(name, at, each, blobs) for at, each in enumerate(items)]
    for name in SEPARATE:
        if name in blobs and name not in changes:
            found[name] = blobs[name].data.decode("utf-8", "surrogatepass")
    return found | {name: value for name, value in changes.items() if value is not None}


def _item(name: str, position: int, item: object, blobs: Mapping[str, Blob]) -> object:
    if not (isinstance(item, dict) and "sha256" in item):
        return item
    place = f"{name}.{position}"
    blob = blobs.get(place)
    if blob is None:
        raise Conflict(f"{place} is older than RETENTION and gone; give {name} again, or submit a new task")
    return f"data:{blob.media_type};base64,{b64encode(blob.data).decode()}"
