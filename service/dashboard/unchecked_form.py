"""The form for a model that this service does not know: all of its parameters as JSON in one field."""

import json
from collections.abc import Mapping

from service.dashboard.forms import Form
from service.dashboard.task_fields import JSON_FIELD, FormField
from service.domain.blob import Blob
from service.domain.errors import Fault
from service.domain.models.media_descriptors import descriptors, restore
from service.domain.task import Json

HELP = (
    "A JSON object, sent to the provider as it is. Media are addresses or base64 data URIs; an object with media_type, "
    "bytes and sha256 is a file that is stored with the task from which the form was filled in."
)


def unchecked_fields() -> list[FormField]:
    """Return the one field of the form."""
    return [FormField(name=JSON_FIELD, label="Parameters as JSON", kind="json", help=HELP, required=True)]


def with_stored_media(params: object, blobs: Mapping[str, Blob], faults: list[Fault]) -> Json:
    """Return the parameters with data URIs in place of the descriptors of stored media, wherever they stand.

    Adds a fault for each that is not stored, and for parameters that are no object.
    """
    if not isinstance(params, dict):
        faults.append(Fault(loc=("params",), msg=f"must be a JSON object, is {json.dumps(params)[:40]}"))
        return {}
    by_content = {blob.sha256: blob for blob in blobs.values()}
    found = {place: by_content.get(str(each["sha256"])) for place, each in descriptors(params)}
    for place, blob in found.items():
        if blob is None:
            msg = f"{place} is not stored here, or older than RETENTION and deleted: give its address or a data URI"
            faults.append(Fault(loc=("params",), msg=msg))
    stored = {place: blob for place, blob in found.items() if blob}
    return params if len(stored) < len(found) else restore(params, stored, data_uris=True)


def kept_by(form: Form) -> bool:
    """Return whether the form may have files of another task."""
    return "sha256" in form.get(JSON_FIELD)
