"""The parameters of a task as its page shows them: pictures and videos, then the plain ones. Only computes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from service.domain.task import Json


@dataclass(frozen=True, kw_only=True)
class InputView:
    """One input: stored at `place`, or at the foreign address `url`, which the page does not load."""

    place: str
    kind: Literal["image", "video", "address", "gone"]
    url: str = ""
    media_type: str = ""
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The media of a task, and its plain parameters except for the prompt."""

    media: list[InputView]
    plain: list[tuple[str, object]]


def input_views(params: Json) -> Inputs:
    """Return the inputs of the parameters of a task."""
    media = [view for name, value in params.items() for view in _media(name, value)]
    plain = [(name, value) for name, value in params.items() if name != "prompt" and not isinstance(value, list | dict)]
    return Inputs(media=media, plain=plain)


def _media(name: str, value: object) -> Iterator[InputView]:
    for index, item in enumerate(value if isinstance(value, list) else []):
        place = f"{name}.{index}"
        if isinstance(item, str):
            yield InputView(place=place, kind="address", url=item)
        elif isinstance(item, dict) and "sha256" in item:
            media_type = str(item.get("media_type", ""))
            kind: Literal["image", "video"] = "video" if media_type.startswith("video/") else "image"
            yield InputView(place=place, kind=kind, media_type=media_type, size=int(item.get("bytes") or 0))
