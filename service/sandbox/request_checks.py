"""Checks of a create request, as shallow as those of the real provider before it bills."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

VTRIX_MODEL = "viduq2_pro_reference"
VIDU_MODEL = "viduq2-pro"
RATIOS = ("16:9", "9:16", "4:3", "3:4", "1:1")
RESOLUTIONS = ("540p", "720p", "1080p")

_MAX_PROMPT = 5000
_MAX_PAYLOAD = 1_048_576
_MAX_IMAGES, _MAX_IMAGES_WITH_VIDEO, _MAX_VIDEOS = 7, 4, 2
_MAX_SECONDS = 10
_POSITIONS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class RequestError:
    """One error of a request: Vidu's reason, the field, and a message."""

    reason: str
    field: str
    message: str


def _is_text(limit: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and len(value) <= limit


def _is_whole(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_one_of(*options: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in options


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _is_address(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


_FIELDS: Mapping[str, Callable[[object], bool]] = {
    "images": _is_list_of_text,
    "videos": _is_list_of_text,
    "prompt": _is_text(_MAX_PROMPT),
    "bgm": _is_flag,
    "duration": _is_whole(0, _MAX_SECONDS),
    "seed": _is_whole(-(2**63), 2**63 - 1),
    "aspect_ratio": _is_one_of(*RATIOS),
    "resolution": _is_one_of(*RESOLUTIONS),
    "payload": _is_text(_MAX_PAYLOAD),
    "off_peak": _is_flag,
    "watermark": _is_flag,
    "wm_position": _is_whole(_POSITIONS[0], _POSITIONS[-1]),
    "wm_url": _is_address,
    "meta_data": _is_text(_MAX_PAYLOAD),
    "callback_url": _is_address,
}


def find_errors(params: Mapping[str, object], *, strict: bool) -> Iterator[RequestError]:
    """Yield the errors of the parameters; `strict` refuses unknown fields, as Vidu does."""
    if strict:
        for name in params:
            if name not in _FIELDS and name != "model":
                yield RequestError("FieldUnwanted", name, f"field {name} is unwanted")
    for name in ("images", "prompt"):
        if params.get(name) in (None, "", []):
            yield RequestError("FieldLacking", name, f"field {name} is lacking")
    for name, is_valid in _FIELDS.items():
        value = params.get(name)
        if value is not None and not is_valid(value):
            yield RequestError("FieldInvalid", name, f"field {name} is invalid")
    yield from _count_errors(params)


def _count_errors(params: Mapping[str, object]) -> Iterator[RequestError]:
    """Yield errors of list lengths; a video lowers the maximum of images."""
    images, videos = params.get("images"), params.get("videos")
    max_images = _MAX_IMAGES_WITH_VIDEO if videos else _MAX_IMAGES
    if isinstance(images, list) and len(images) > max_images:
        yield RequestError("FieldItemCountOutOfRange", "images", f"field images takes 1 to {max_images} items")
    if isinstance(videos, list) and len(videos) > _MAX_VIDEOS:
        yield RequestError("FieldItemCountOutOfRange", "videos", f"field videos takes at most {_MAX_VIDEOS} items")
