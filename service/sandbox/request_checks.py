"""Look a create request over, lightly, as the real upstream does before it takes the money."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

VTRIX_MODEL = "viduq2_pro_reference"
VIDU_MODEL = "viduq2-pro"
RATIOS = ("16:9", "9:16", "4:3", "3:4", "1:1")
RESOLUTIONS = ("540p", "720p", "1080p")

_PROMPT_LIMIT = 5000
_PAYLOAD_LIMIT = 1_048_576
_IMAGES, _IMAGES_WITH_VIDEO, _VIDEOS = 7, 4, 2
_LONGEST = 10
_POSITIONS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class RequestError:
    """Say what is wrong with a request: Vidu's reason, the field, and a sentence."""

    reason: str
    field: str
    message: str


def _is_text(limit: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and len(value) <= limit


def _is_whole(low: int, high: int) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_one_of(*words: str) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in words


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _is_address(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


_FIELDS: Mapping[str, Callable[[object], bool]] = {
    "images": _is_list_of_text,
    "videos": _is_list_of_text,
    "prompt": _is_text(_PROMPT_LIMIT),
    "bgm": _is_flag,
    "duration": _is_whole(0, _LONGEST),
    "seed": _is_whole(-(2**63), 2**63 - 1),
    "aspect_ratio": _is_one_of(*RATIOS),
    "resolution": _is_one_of(*RESOLUTIONS),
    "payload": _is_text(_PAYLOAD_LIMIT),
    "off_peak": _is_flag,
    "watermark": _is_flag,
    "wm_position": _is_whole(_POSITIONS[0], _POSITIONS[-1]),
    "wm_url": _is_address,
    "meta_data": _is_text(_PAYLOAD_LIMIT),
    "callback_url": _is_address,
}


def find_errors(params: Mapping[str, object], *, strict: bool) -> Iterator[RequestError]:
    """Yield what is wrong with the parameters; `strict` refuses unknown fields, as Vidu does."""
    if strict:
        yield from _unwanted(params)
    yield from _lacking(params)
    yield from _invalid(params)
    yield from _miscounted(params)


def _unwanted(params: Mapping[str, object]) -> Iterator[RequestError]:
    for name in params:
        if name not in _FIELDS and name != "model":
            yield RequestError("FieldUnwanted", name, f"field {name} is unwanted")


def _lacking(params: Mapping[str, object]) -> Iterator[RequestError]:
    for name in ("images", "prompt"):
        if params.get(name) in (None, "", []):
            yield RequestError("FieldLacking", name, f"field {name} is lacking")


def _invalid(params: Mapping[str, object]) -> Iterator[RequestError]:
    for name, fits in _FIELDS.items():
        value = params.get(name)
        if value is not None and not fits(value):
            yield RequestError("FieldInvalid", name, f"field {name} is invalid")


def _miscounted(params: Mapping[str, object]) -> Iterator[RequestError]:
    images, videos = params.get("images"), params.get("videos")
    most = _IMAGES_WITH_VIDEO if videos else _IMAGES
    if isinstance(images, list) and len(images) > most:
        yield RequestError("FieldItemCountOutOfRange", "images", f"field images takes 1 to {most} items")
    if isinstance(videos, list) and len(videos) > _VIDEOS:
        yield RequestError("FieldItemCountOutOfRange", "videos", f"field videos takes at most {_VIDEOS} items")
