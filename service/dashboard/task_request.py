"""A sent form for a new task: its parameters, metadata and notify entries, and the form that shows it again."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from pybase64 import b64encode_as_string

from service.dashboard.forms import Form
from service.dashboard.task_fields import FormField, KeptItem, addresses, item_faults, read_value, values_of
from service.dashboard.uploads import KEPT, KEPT_FROM, MAX_KEPT
from service.domain.blob import Blob
from service.domain.errors import Fault, UnreadableBody
from service.domain.event_routing import WEBHOOK
from service.domain.notify import LocatedMessage
from service.domain.ports.tasks import BlobStore
from service.domain.strict_json import parse_json
from service.domain.task import Json, Task

STORED = "stored here, "
NUL = "must not contain the character U+0000"


@dataclass(frozen=True, kw_only=True)
class FormTexts:
    """The fields of the form that are no parameters, and what is wrong: with them, and with the whole form."""

    metadata: str = ""
    notify_url: str = ""
    notify: str = ""
    metadata_faults: tuple[str, ...] = ()
    notify_faults: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FormView:
    """What the form shows."""

    fields: list[FormField]
    texts: FormTexts = field(default_factory=FormTexts)


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """What a form asks for, with the faults that are known without validation; `view` shows it again.

    `items` are for each parameter with media what a person calls its items.
    """

    params: Json = field(repr=False)
    metadata: object
    notify: object = field(repr=False)
    faults: tuple[Fault, ...]
    view: FormView = field(repr=False)
    items: Mapping[str, list[str]]


def read_request(fields: Sequence[FormField], form: Form, blobs: Mapping[str, Blob]) -> TaskRequest:
    """Return what a form asks for; `blobs` are those of the task from which it was filled in."""
    params: Json = {}
    faults: list[Fault] = []
    shown: list[FormField] = []
    items: dict[str, list[str]] = {}
    left = MAX_KEPT
    for each in fields:
        if each.kind == "media":
            media = _Media(each, form, blobs)
            if media.values:
                params[each.name] = media.values
            items[each.name], left = media.labels, left - media.kept_size
            shown.append(media.view(keep=left >= 0))
            continue
        text = form.get(each.name)
        value, fault = read_value(each, text)
        if value is not None:
            params[each.name] = value
        faults += [Fault(loc=("params", each.name), msg=fault)] if fault else []
        shown.append(replace(each, value=text))
    texts = FormTexts(metadata=form.get("metadata"), notify_url=form.get("notify_url"), notify=form.get("notify"))
    metadata = _json(texts.metadata, {}, "metadata", faults)
    notify = _notify(texts, faults)
    view = FormView(fields=shown, texts=texts)
    return TaskRequest(params=params, metadata=metadata, notify=notify, faults=tuple(faults), view=view, items=items)


class _Media:
    """The images or videos of one field: addresses, kept ones, and new files, in this order."""

    def __init__(self, found: FormField, form: Form, blobs: Mapping[str, Blob]) -> None:
        self._field = found
        self._text = form.get(found.name)
        self.values: list[str] = addresses(self._text)
        self.labels = list(self.values)
        self._kept: list[KeptItem] = []
        self.kept_size = 0
        for place in form.all(found.name + KEPT_FROM):
            self._add_stored(place, blobs.get(place))
        for kept in form.all(found.name + KEPT):
            name, _, uri = kept.partition("|")
            self._add(uri, unquote(name))
        for file in form.files(found.name):
            self._add(file.data_uri(), file.name or "a file without a name")

    def _add_stored(self, place: str, blob: Blob | None) -> None:
        label = f"{STORED}{place}"
        self.labels.append(label)
        if blob is None:
            self.values.append(place)  # validation says that it is no address
            return
        self.values.append(f"data:{blob.media_type};base64,{b64encode_as_string(blob.data)}")
        self._kept.append(KeptItem(value=place, label=label))

    def _add(self, uri: str, label: str) -> None:
        self.values.append(uri)
        self.labels.append(label)
        self._kept.append(KeptItem(value=f"{quote(label)}|{uri}", label=label))
        self.kept_size += len(uri)

    def view(self, *, keep: bool) -> FormField:
        """Return the field with what was given; what is too large for the page must be chosen again."""
        if keep:
            return replace(self._field, value=self._text, kept=tuple(self._kept))
        small = tuple(each for each in self._kept if each.label.startswith(STORED))
        lost = len(self._kept) - len(small)
        faults = (f"choose {lost} file{'s' if lost > 1 else ''} again: too large to keep here",)
        return replace(self._field, value=self._text, kept=small, faults=faults)


def _json(text: str, default: object, name: str, faults: list[Fault]) -> object:
    """Return the JSON value in the text of a field, `default` for an empty one; add a fault for any other text."""
    if not text.strip():
        return default
    try:
        value = parse_json(text.encode())
    except UnreadableBody as error:
        faults.append(Fault(loc=(name,), msg=str(error).removeprefix("the body ")))
        return default
    if "\0" in json.dumps(value, ensure_ascii=False) or "\\u0000" in json.dumps(value, ensure_ascii=False):
        faults.append(Fault(loc=(name,), msg=NUL))
        return default
    return value


def _notify(texts: FormTexts, faults: list[Fault]) -> object:
    url = texts.notify_url.strip()
    more = _json(texts.notify, [], "notify", faults)
    entries = more if isinstance(more, list) else [more]
    return [*([{"handler": WEBHOOK, "url": url}] if url else []), *entries] or None


def shown_again(wanted: TaskRequest, faults: Sequence[Fault]) -> FormView:
    """Return the form as it was sent, with each fault beside its field; the others stand above all."""
    by_field: defaultdict[str, list[LocatedMessage]] = defaultdict(list)
    for fault in faults:
        loc = fault.loc[1:] if fault.loc[:1] == ("params",) else fault.loc
        by_field[str(loc[0]) if loc else ""].append((loc[1:], fault.msg))
    fields = []
    for each in wanted.view.fields:
        own = by_field.pop(each.name, [])
        fields.append(replace(each, faults=(*item_faults(own, wanted.items.get(each.name, [])), *each.faults)))
    metadata = tuple(msg for _, msg in by_field.pop("metadata", []))
    notify = tuple(_located(loc, msg) for loc, msg in by_field.pop("notify", []))
    above = [f"{name}: {msg}" if name else msg for name, found in by_field.items() for _, msg in found]
    texts = replace(wanted.view.texts, metadata_faults=metadata, notify_faults=notify, faults=tuple(above))
    return FormView(fields=fields, texts=texts)


def _located(loc: tuple[str | int, ...], msg: str) -> str:
    return f"{'.'.join(map(str, loc[1:]))} {msg}" if len(loc) > 1 else msg


async def filled_in(task: Task, fields: Sequence[FormField], blobs: BlobStore) -> FormView:
    """Return the form with the values of another task; its stored images and videos are chosen by their places."""
    texts = values_of(task.params)
    payload = await blobs.payload(task.id) if any(each.name == "payload" for each in fields) else None
    found: list[FormField] = []
    for each in fields:
        if each.kind == "media":
            found.append(_filled_media(each, task.params.get(each.name)))
        elif each.name == "payload" and payload is not None:
            found.append(replace(each, value=payload))
        else:
            found.append(replace(each, value=texts.get(each.name, each.value)))
    metadata = json.dumps(task.metadata, ensure_ascii=False, indent=2) if task.metadata else ""
    return FormView(fields=found, texts=FormTexts(metadata=metadata))


def _filled_media(found: FormField, value: object) -> FormField:
    items = value if isinstance(value, list) else []
    urls = [item for item in items if isinstance(item, str)]
    kept = [
        KeptItem(value=f"{found.name}.{index}", label=f"{STORED}{found.name}.{index}")
        for index, item in enumerate(items)
        if isinstance(item, dict)
    ]
    return replace(found, value="\n".join(urls), kept=tuple(kept))


def keeps_stored(fields: Sequence[FormField], form: Form) -> bool:
    """Return whether the form uses stored images or videos of another task."""
    return any(form.all(each.name + KEPT_FROM) for each in fields if each.kind == "media")
