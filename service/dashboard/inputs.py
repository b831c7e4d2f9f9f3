"""The parameters of a task as its page shows them: pictures and videos, then the plain ones. Only computes."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from service.domain.models.media_descriptors import is_descriptor
from service.domain.task import Json


@dataclass(frozen=True, kw_only=True)
class InputView:
    """One input: stored at `place`, or at the foreign address `url`, which the page does not load.

    A `deleted` one was stored and is older than RETENTION.
    """

    place: str
    kind: Literal["image", "video", "address"]
    url: str = ""
    deleted: bool = False
    media_type: str = ""
    size: int = 0

    @property
    def link(self) -> str:
        """Return the address if a link may lead there: an absolute one of http or https; empty for any other text."""
        try:
            parts = urlsplit(self.url)
        except ValueError:
            return ""
        return self.url if parts.scheme in {"http", "https"} and parts.hostname and self.url.isprintable() else ""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The media of a task, and its plain parameters except for the prompt."""

    media: list[InputView]
    plain: list[tuple[str, object]]


def input_views(params: Json, stored: Collection[str]) -> Inputs:
    """Return the inputs of the parameters of a task, also those within its subjects.

    `stored` are the places of those that are still stored.
    """
    found = Inputs(media=[], plain=[])
    for name, value in params.items():
        if name != "prompt":
            _add(found, name, value)
    media = [each if each.url or each.place in stored else replace(each, deleted=True) for each in found.media]
    return Inputs(media=media, plain=found.plain)


def _add(found: Inputs, place: str, value: object, *, listed: bool = False) -> None:
    """Add a value: a stored medium, an address in a list, the parts of anything else that has some, or a plain one."""
    if isinstance(value, dict) and is_descriptor(value):
        media_type = str(value["media_type"])
        kind: Literal["image", "video"] = "video" if media_type.startswith("video/") else "image"
        found.media.append(InputView(place=place, kind=kind, media_type=media_type, size=int(value["bytes"] or 0)))
    elif isinstance(value, dict):
        for name, each in value.items():
            _add(found, f"{place}.{name}", each)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            _add(found, f"{place}.{index}", each, listed=True)
    elif listed and isinstance(value, str):
        found.media.append(InputView(place=place, kind="address", url=value))
    else:
        found.plain.append((place, value))
