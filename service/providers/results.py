"""Reads the results of a completed task: what has an address is taken, the rest is left out with its reason."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.domain.task import Json
from service.providers.answer import Answer, plain_name
from service.providers.reasons import text_of

MAX_ITEMS = 64
MAX_DEPTH = 4
MAX_REASONS = 5

OTHER_FIELDS = (
    "output",
    "outputs",
    "creations",
    "result",
    "results",
    "taskresult",
    "works",
    "video",
    "videourl",
    "resulturl",
    "resulturls",
    "outputurl",
    "outputurls",
    "downloadurl",
    "data",
    "content",
    "contents",
    "fileurl",
    "url",
)
"""Fields of a task in which results occur besides the documented one. `videos` and `images` repeat the inputs."""

INNER_FIELDS = (
    "content",
    "contents",
    "output",
    "outputs",
    "creations",
    "result",
    "results",
    "works",
    "videos",
    "video",
    "items",
    "files",
    "list",
    "data",
)
"""Fields inside of those in which results are nested further."""

ADDRESSES = (
    *("url", "videourl", "resulturl", "downloadurl", "fileurl", "outputurl", "uri", "href", "src"),
    *("mediaurl", "playurl", "publicurl", "signedurl", "presignedurl", "watermarkedurl"),
)
"""Names of the address of a result, the best first: a video with a watermark is better than none."""
REASONS = ("error", "errormessage", "errmsg", "failreason", "filterreason", "blockreason", "reason", "message", "msg")

Fields = Mapping[str, Any]
ReadItem = Callable[[Fields], Json]
"""Returns an item of the task's output, apart from its address, from the fields of a result by their plain names."""


@dataclass(kw_only=True)
class Results:
    """The results that can be read, and why others were left out."""

    items: list[Json] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ResultReader:
    """Reads results; `documented` is the provider's own field, `read_item` reads one of them."""

    documented: str
    read_item: ReadItem

    def read(self, answer: Answer) -> Results:
        """Return the results of a completed task: those of the documented field, or of the first that has any."""
        results = Results()
        for name in (self.documented, *OTHER_FIELDS):
            for value in answer.values((name,)):
                self._collect(answer, value, results, 0)
                if results.items:
                    return results
        return results

    def _collect(self, answer: Answer, value: object, results: Results, depth: int) -> None:
        if len(results.items) >= MAX_ITEMS or depth > MAX_DEPTH:
            return
        if isinstance(value, list):
            for entry in value[:MAX_ITEMS]:
                self._collect(answer, entry, results, depth + 1)
        elif isinstance(value, dict):
            self._read_object(answer, {plain_name(name): content for name, content in value.items()}, results, depth)
        elif (url := answer.address(value)) is not None:
            _add(results, self.read_item({}) | {"url": url})

    def _read_object(self, answer: Answer, fields: Fields, results: Results, depth: int) -> None:
        for name in ADDRESSES:
            if name in fields and (url := answer.address(fields[name])):
                _add(results, self.read_item(fields) | {"url": url})
                return
        count = len(results.items)
        for name in INNER_FIELDS:
            if name in fields and isinstance(fields[name], list | dict):
                self._collect(answer, fields[name], results, depth + 1)
        if len(results.items) == count and (text := _reason(answer, fields, REASONS)):
            results.reasons = list(dict.fromkeys([*results.reasons, text]))[:MAX_REASONS]


def _add(results: Results, item: Json) -> None:
    if len(results.items) < MAX_ITEMS:
        results.items.append(item)


def _reason(answer: Answer, fields: Fields, names: Sequence[str]) -> str:
    return next((text for name in names if (text := text_of(answer, fields.get(name)))), "")
