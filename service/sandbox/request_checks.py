"""Checks of a create request, as shallow as those of the real provider before it bills."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

VTRIX_MODEL = "viduq2_pro_reference"
RATIOS = ("16:9", "9:16", "4:3", "3:4", "1:1")
RESOLUTIONS = ("540p", "720p", "1080p")
MAX_PROMPT = 5000

_MAX_PAYLOAD = 1_048_576
_MAX_IMAGES_WITH_VIDEO = 4
_POSITIONS = (1, 2, 3, 4)

Check = Callable[[object], bool]


@dataclass(frozen=True, slots=True)
class RequestError:
    """One error of a request: Vidu's reason, the field, and a message."""

    reason: str
    field: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """Rules of a create request.

    `fields` has the check of each field, `required` the names that may not be missing or empty, and `items` the
    smallest and the largest length of each list. `strict` refuses unknown fields, as Vidu does.
    """

    fields: Mapping[str, Check]
    required: tuple[str, ...]
    items: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    strict: bool = False


def is_text(limit: int) -> Check:
    """Return the check for a text of at most `limit` characters."""
    return lambda value: isinstance(value, str) and len(value) <= limit


def is_whole(low: int, high: int) -> Check:
    """Return the check for an integer from `low` to `high`."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_one_of(*options: object) -> Check:
    """Return the check for one of the options, with the same type."""
    return lambda value: any(type(value) is type(option) and value == option for option in options)


def is_flag(value: object) -> bool:
    """Return whether the value is true or false."""
    return isinstance(value, bool)


def is_list_of_text(value: object) -> bool:
    """Return whether the value is a list of texts that are not empty."""
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def is_address(value: object) -> bool:
    """Return whether the value looks like an http or https address."""
    return isinstance(value, str) and value.startswith(("http://", "https://"))


COMMON: Mapping[str, Check] = {
    "bgm": is_flag,
    "seed": is_whole(-(2**63), 2**63 - 1),
    "aspect_ratio": is_one_of(*RATIOS),
    "payload": is_text(_MAX_PAYLOAD),
    "off_peak": is_flag,
    "watermark": is_flag,
    "wm_position": is_whole(_POSITIONS[0], _POSITIONS[-1]),
    "wm_url": is_address,
    "meta_data": is_text(_MAX_PAYLOAD),
    "callback_url": is_address,
}
"""Fields that every model of both providers has."""

VTRIX_RULES = Rules(
    fields={
        "images": is_list_of_text,
        "videos": is_list_of_text,
        "prompt": is_text(MAX_PROMPT),
        "duration": is_whole(0, 10),
        "resolution": is_one_of(*RESOLUTIONS),
        **COMMON,
    },
    required=("images", "prompt"),
    items={"images": (1, 7), "videos": (0, 2)},
)
"""Rules of the gateway's `viduq2_pro_reference`."""


def find_errors(params: Mapping[str, object], rules: Rules) -> Iterator[RequestError]:
    """Yield the errors of the parameters."""
    if rules.strict:
        for name in params:
            if name not in rules.fields:
                yield RequestError("FieldUnwanted", name, f"field {name} is unwanted")
    for name in rules.required:
        if params.get(name) in (None, "", []):
            yield RequestError("FieldLacking", name, f"field {name} is lacking")
    for name, is_valid in rules.fields.items():
        value = params.get(name)
        if value is not None and not is_valid(value):
            yield RequestError("FieldInvalid", name, f"field {name} is invalid")
    yield from _count_errors(params, rules)


def _count_errors(params: Mapping[str, object], rules: Rules) -> Iterator[RequestError]:
    """Yield errors of list lengths; a video lowers the maximum of images."""
    for name, (low, high) in rules.items.items():
        items = params.get(name)
        if name == "images" and params.get("videos"):
            high = min(high, _MAX_IMAGES_WITH_VIDEO)  # noqa: PLW2901 - the limit of this request
        if isinstance(items, list) and items and not low <= len(items) <= high:
            yield RequestError("FieldItemCountOutOfRange", name, f"field {name} takes {low} to {high} items")
