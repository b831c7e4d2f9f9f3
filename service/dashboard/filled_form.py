"""The form for a new task, filled in with the values of another one."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from urllib.parse import quote

from service.dashboard.formats import pretty
from service.dashboard.task_fields import JSON_FIELD, FormField, KeptItem, text_of, value_in
from service.dashboard.task_request import STORED, FormTexts, FormView
from service.domain.models.media_descriptors import descriptors
from service.domain.ports.tasks import BlobStore
from service.domain.resubmission import SEPARATE
from service.domain.task import Json, Task


async def filled_in(task: Task, fields: Sequence[FormField], blobs: BlobStore) -> FormView:
    """Return the form with the values of another task; its stored images and videos are chosen by their places.

    What RETENTION has deleted is named beside its field. Notify entries are left out: they may have secrets.
    """
    stored = await blobs.stored_at(task.id)
    params = task.params | await _separate_texts(task, stored, blobs)
    metadata = json.dumps(task.metadata, ensure_ascii=False, indent=2) if task.metadata else ""
    return FormView(fields=[_filled(each, params, stored) for each in fields], texts=FormTexts(metadata=metadata))


async def _separate_texts(task: Task, stored: Collection[str], blobs: BlobStore) -> Json:
    """Return the texts that are stored beside the other parameters."""
    found = {"payload": blobs.payload, "meta_data": blobs.meta_data}
    return {name: await found[name](task.id) for name in SEPARATE if name in stored}


def _filled(found: FormField, params: Json, stored: Collection[str]) -> FormField:
    if found.name == JSON_FIELD:
        gone = tuple(place for place, _ in descriptors(params) if place not in stored)
        return replace(found, value=pretty(params), gone=gone)
    value = value_in(found, params)
    if found.kind == "media":
        return _filled_media(found, value, stored)
    return found if value is None else replace(found, value=text_of(value))


def _filled_media(found: FormField, value: object, stored: Collection[str]) -> FormField:
    """Return the field with the items of another task; beside stored ones addresses keep their place in the order."""
    items = value if isinstance(value, list) else []
    if all(isinstance(item, str) for item in items):
        return replace(found, value="\n".join(items))
    kept, gone = list[KeptItem](), list[str]()
    for index, item in enumerate(items):
        place = f"{found.name}.{index}"
        if isinstance(item, str):
            kept.append(KeptItem(value=f"{quote(item)}|{item}", label=item))
        elif place in stored:
            kept.append(KeptItem(value=place, label=f"{STORED}{place}"))
        else:
            gone.append(place)
    return replace(found, kept=tuple(kept), gone=tuple(gone))
