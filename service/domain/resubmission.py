"""Tasks that may be submitted again, and their requests, made again with changes. Only computes."""

from collections.abc import Mapping

from service.domain.blob import Blob
from service.domain.errors import Conflict
from service.domain.models.media_descriptors import restore
from service.domain.task import Json, Status, Task

RESUBMITTABLE = frozenset({Status.IN_DOUBT, Status.FAILED, Status.EXPIRED, Status.CANCELED})
"""Statuses of tasks that may be submitted again as they are."""

SEPARATE = ("payload", "meta_data")
"""Parameters that are stored as texts beside the others."""


def has_ended(task: Task) -> bool:
    """Return whether a task may be submitted again with changes, unless it was erased."""
    return task.settled or task.status in RESUBMITTABLE


def changed_params(params: Json, blobs: Mapping[str, Blob], changes: Json) -> Json:
    """Return the parameters of a stored task as a client would send them, with `changes`; null removes one.

    Stored media become data URIs again. Raises Conflict for one that is needed and gone.
    """
    try:
        kept = {name: value for name, value in params.items() if name not in changes}
        found = restore(kept, blobs, data_uris=True)
    except KeyError as gone:
        place = str(gone.args[0])
        name = place.partition(".")[0]
        raise Conflict(f"{place} is older than RETENTION and gone; give {name} again, or submit a new task") from gone
    for name in SEPARATE:
        if name in blobs and name not in changes:
            found[name] = blobs[name].data.decode("utf-8", "surrogatepass")
    return found | {name: value for name, value in changes.items() if value is not None}
