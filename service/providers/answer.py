"""A provider's JSON answer: its fields by name, wherever the provider nests them, and however it writes their names."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from service.domain.task import UpstreamId
from service.providers.fields import MAX_TEXT, clean, http_url
from service.providers.status_words import NEUTRAL_WORDS, plain_word
from service.providers.task_ids import bare_id, task_id

WRAPPERS = ("data", "task", "result", "response", "output", "payload", "body", "tasks")
"""Fields in which a provider or a gateway may nest the task, by their plain names."""

LISTS = frozenset({"data", "tasks"})
"""Those of them that may be a list with the task as its only entry."""

RESULT_MARKS = ("url", "videourl", "content", "fileurl")
"""Fields of a result, which may have an id and a status of its own."""

BARE_ID_FIELDS = ("data", "task", "result", "output")
"""Fields that may hold the id itself."""

TASK_IDS = ("taskid", "taskuuid")
OWN_IDS = ("id", "taskid")
"""Fields that hold an id of the task itself."""

MAX_NESTING = 3
_LONG_NAME = 64

Layer = Mapping[str, Any]
"""The fields of one object by their plain names."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What reading needs besides the body: the base of relative addresses, and the key that no text may show."""

    base_url: str = ""
    key: str = field(default="", repr=False)


DEFAULT_READING = Reading()


@dataclass(frozen=True, kw_only=True)
class Names:
    """The plain names of a provider's fields for the id and for the status, in the order of precedence."""

    ids: Sequence[str]
    statuses: Sequence[str]


@lru_cache(maxsize=1024)
def plain_name(name: str) -> str:
    """Return a field's name without upper case and separators: `task_id`, `taskId` and `Task-ID` are `taskid`."""
    return plain_word(name[:_LONG_NAME])


class Answer:
    """The fields of an answer.

    `layers` are its nested objects, the task's own one first. `word` is the status word as the provider writes it, ""
    without one: numbers and words like `ok` are none.
    """

    def __init__(self, body: object, names: Names, reading: Reading = DEFAULT_READING) -> None:
        self.names = names
        self.reading = reading
        self.layers = self._layers(body)
        self.word = next((word for layer in self.layers if (word := self._word_in(layer))), "")

    def _layers(self, body: object) -> list[Layer]:
        outer = _layer(body)
        layers = [outer]
        for _ in range(MAX_NESTING):
            inner = next(self._inner(outer), None)
            if inner is None:
                break
            layers.insert(0, inner)
            outer = inner
        return layers

    def _inner(self, outer: Layer) -> Iterator[Layer]:
        """Yield the nested objects that describe the task better than `outer`, which may be an envelope."""
        outer_id, outer_word = self._id_in(outer), self._word_in(outer)
        for name in WRAPPERS:
            value = outer.get(name)
            inner = _layer(value, lists=name in LISTS) if isinstance(value, dict | list) else None
            if not inner:
                continue
            inner_id, inner_word = self._id_in(inner), self._word_in(inner)
            if any(inner.get(mark) for mark in RESULT_MARKS):
                better = _is_task(name, (outer_id, outer_word), (inner_id, inner_word))
            elif outer_id and outer_word:
                better = name in {"data", "task"} and bool(inner_id and inner_word)
            elif outer_id or outer_word:
                named = not outer_word and _names_task(inner) and not _names_task(outer)
                better = bool(inner_word or (inner_id and not outer_id) or named)
            else:
                better = bool(inner_id or inner_word) or any(wrapper in inner for wrapper in WRAPPERS)
            if better:
                yield inner

    def _id_in(self, layer: Layer) -> UpstreamId | None:
        for name in self.names.ids:
            if name in layer and (found := task_id(layer[name])):
                return found
        return None

    def _word_in(self, layer: Layer) -> str:
        for name in self.names.statuses:
            if name in layer and (word := _word(layer[name])):
                return word
        return ""

    @property
    def id(self) -> UpstreamId | None:
        """The task's id, None without one."""
        named = next((found for layer in self.layers if (found := self._id_in(layer))), None)
        return named or next((found for value in self.values(BARE_ID_FIELDS) if (found := bare_id(value))), None)

    @property
    def ids(self) -> set[UpstreamId]:
        """Every id of the task that the answer names; none if it names only one of a job behind the provider."""
        if not any(task_id(value) for value in self.values(OWN_IDS)):
            return set()
        return {found for value in self.values(self.names.ids) if (found := task_id(value))}

    def get(self, name: str) -> Any:
        """Return the first value of a field that is not null, None without one."""
        for layer in self.layers:
            if (value := layer.get(name)) is not None:
                return value
        return None

    def values(self, names: Sequence[str]) -> Iterator[Any]:
        """Yield the values of these fields that are not null, those of the task's own object first."""
        for layer in self.layers:
            for name in names:
                if (value := layer.get(name)) is not None:
                    yield value

    def text(self, value: object, limit: int = MAX_TEXT) -> str:
        """Return a text as one clean line without the provider's key."""
        return clean(value, limit, self.reading.key)

    def address(self, value: object) -> str | None:
        """Return the http address in a value, None without one; a relative one begins at the provider's."""
        return http_url(value, self.reading.base_url)


def _names_task(layer: Layer) -> bool:
    """Return whether a field names a task by its name: a plain `id` in an envelope may be that of the request."""
    return any(task_id(layer.get(name)) for name in TASK_IDS)


def _is_task(name: str, outer: tuple[UpstreamId | None, str], inner: tuple[UpstreamId | None, str]) -> bool:
    """Return whether an object that holds an address is the task itself, not a result; takes id and word of each."""
    (outer_id, outer_word), (inner_id, inner_word) = outer, inner
    if outer_id:
        return not outer_word and bool(inner_word) and inner_id in {None, outer_id}
    if outer_word:
        return name in {"data", "task"} and bool(inner_id and inner_word)
    return bool(inner_id or inner_word)


def _layer(value: object, *, lists: bool = True) -> Layer:
    """Return an object's fields by plain names, with `lists` also those of the only object in a list; {} otherwise."""
    if lists and isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, dict):
        return {}
    fields: dict[str, Any] = {}
    for name, content in value.items():
        plain = plain_name(name)
        if fields.get(plain) is None:
            fields[plain] = content
    return fields


def _word(value: object) -> str:
    if not isinstance(value, str):
        return ""
    word = value.strip()
    return "" if word.isdigit() or plain_word(word) in NEUTRAL_WORDS else word
