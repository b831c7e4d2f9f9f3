"""A sent form for a new task: its parameters, metadata and notify entries, and the form that shows it again."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from urllib.parse import quote, unquote

from pybase64 import b64encode_as_string

from service.dashboard.forms import Form
from service.dashboard.task_fields import JSON_FIELD, FormField, KeptItem, addresses, item_faults, read_value
from service.dashboard.unchecked_form import kept_by, with_stored_media
from service.dashboard.uploads import KEPT, KEPT_FROM, MAX_KEPT
from service.domain.blob import Blob
from service.domain.errors import Fault, UnreadableBody
from service.domain.event_routing import WEBHOOK
from service.domain.notify import LocatedMessage
from service.domain.strict_json import parse_json
from service.domain.task import Json

Location = tuple[str | int, ...]

STORED = "stored here, "
GONE = "is older than RETENTION and deleted here: choose the file again, or leave it out"
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

    `items` are for each field with media what a person calls its items, and `field_names` those of the fields by the
    locations of their values in the parameters.
    """

    params: Json = field(repr=False)
    metadata: object
    notify: object = field(repr=False)
    faults: tuple[Fault, ...]
    view: FormView = field(repr=False)
    items: Mapping[str, list[str]]
    field_names: Mapping[Location, str]


def read_request(fields: Sequence[FormField], form: Form, blobs: Mapping[str, Blob]) -> TaskRequest:
    """Return what a form asks for; `blobs` are those of the task from which it was filled in."""
    faults: list[Fault] = []
    if fields[0].name == JSON_FIELD:
        text = form.get(JSON_FIELD)
        params = with_stored_media(_json(text, {}, JSON_FIELD, faults), blobs, faults)
        return _request(form, params, [replace(fields[0], value=text)], faults, items={}, field_names={})
    values: Json = {}
    shown: list[FormField] = []
    items: dict[str, list[str]] = {}
    left = MAX_KEPT
    for each in fields:
        if each.kind == "media":
            media = _Media(each, form, blobs)
            if media.values:
                values[each.name] = media.values
            faults += [Fault(loc=("params", each.name), msg=f"{place} {GONE}") for place in media.gone]
            items[each.name], left = media.labels, left - media.kept_size
            shown.append(media.view(keep=left >= 0))
            continue
        text = form.get(each.name)
        value, fault = read_value(each, text)
        if value is not None:
            values[each.name] = value
        faults += [Fault(loc=("params", each.name), msg=fault)] if fault else []
        shown.append(replace(each, value=text))
    params, field_names = _arranged(fields, values)
    return _request(form, params, shown, faults, items=items, field_names=field_names)


def _request(
    form: Form,
    params: Json,
    shown: list[FormField],
    faults: list[Fault],
    *,
    items: Mapping[str, list[str]],
    field_names: Mapping[Location, str],
) -> TaskRequest:
    """Return the request with the fields that are no parameters."""
    texts = FormTexts(metadata=form.get("metadata"), notify_url=form.get("notify_url"), notify=form.get("notify"))
    metadata = _json(texts.metadata, {}, "metadata", faults)
    notify = _notify(texts, faults)
    return TaskRequest(
        params=params,
        metadata=metadata,
        notify=notify,
        faults=tuple(faults),
        view=FormView(fields=shown, texts=texts),
        items=items,
        field_names=field_names,
    )


def _arranged(fields: Sequence[FormField], values: Mapping[str, object]) -> tuple[Json, dict[Location, str]]:
    """Return the parameters, and the names of the fields by the locations of their values.

    Objects in a list that have no value are left out. Faults of the list or of an object as a whole belong to the first
    field.
    """
    params: Json = {}
    field_names: dict[Location, str] = {(each.name,): each.name for each in fields}
    for item, group in groupby(fields, key=attrgetter("item")):
        names = {each.key: each.name for each in group}
        first = next(iter(names.values()))
        found = {key: values[name] for key, name in names.items() if name in values}
        if item is None:
            params |= found
            continue
        field_names.setdefault((item[0],), first)
        if found:
            objects = params.setdefault(item[0], [])
            field_names |= {(item[0], len(objects)): first}
            field_names |= {(item[0], len(objects), key): name for key, name in names.items()}
            objects.append(found)
    return params, field_names


class _Media:
    """The images or videos of one field: addresses, kept ones in the order of the form, and new files."""

    def __init__(self, found: FormField, form: Form, blobs: Mapping[str, Blob]) -> None:
        self._field = found
        self._text = form.get(found.name)
        self.values: list[str] = addresses(self._text)
        self.labels = list(self.values)
        self._kept: list[KeptItem] = []
        self.gone: list[str] = []
        self.kept_size = 0
        for name, value in form.pairs(found.name + KEPT_FROM, found.name + KEPT):
            if name.endswith(KEPT_FROM):
                self._add_stored(value, blobs.get(value))
            else:
                label, _, uri = value.partition("|")
                self._add(uri, unquote(label))
        for file in form.files(found.name):
            self._add(file.data_uri(), file.name or "a file without a name")

    def _add_stored(self, place: str, blob: Blob | None) -> None:
        if blob is None:
            self.gone.append(place)
            return
        label = f"{STORED}{place}"
        self.labels.append(label)
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
        name, message = _place(wanted, fault)
        by_field[name].append(message)
    fields = []
    for each in wanted.view.fields:
        own = by_field.pop(each.name, [])
        fields.append(replace(each, faults=(*item_faults(own, wanted.items.get(each.name, [])), *each.faults)))
    metadata = tuple(msg for _, msg in by_field.pop("metadata", []))
    notify = tuple(_located(loc, msg) for loc, msg in by_field.pop("notify", []))
    above = [f"{name}: {msg}" if name else msg for name, found in by_field.items() for _, msg in found]
    texts = replace(wanted.view.texts, metadata_faults=metadata, notify_faults=notify, faults=tuple(above))
    return FormView(fields=fields, texts=texts)


def _place(wanted: TaskRequest, fault: Fault) -> tuple[str, LocatedMessage]:
    """Return the name of the field to which a fault belongs, and the fault within it."""
    of_params = fault.loc[:1] == ("params",)
    loc = fault.loc[1:] if of_params else fault.loc
    if of_params and wanted.view.fields[0].name == JSON_FIELD:
        return JSON_FIELD, ((), f"{'.'.join(map(str, loc))}: {fault.msg}" if loc else fault.msg)
    length = next((length for length in range(len(loc), 0, -1) if loc[:length] in wanted.field_names), 1)
    return wanted.field_names.get(loc[:length], str(loc[0]) if loc else ""), (loc[length:], fault.msg)


def _located(loc: tuple[str | int, ...], msg: str) -> str:
    return f"{'.'.join(map(str, loc[1:]))} {msg}" if len(loc) > 1 else msg


def keeps_stored(fields: Sequence[FormField], form: Form) -> bool:
    """Return whether the form uses stored images or videos of another task."""
    return kept_by(form) or any(form.all(each.name + KEPT_FROM) for each in fields if each.kind == "media")
