"""The gateway's models: the checks of their parameters, and the specifications of those beside the first one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.sandbox import request_checks as checks
from service.sandbox.request_checks import COMMON, VTRIX_MODEL, VTRIX_RULES, Rules

RATIOS_OF_SUBJECTS = ("16:9", "9:16", "1:1")
RATIOS_OF_PICTURES = ("auto", "16:9", "9:16", "1:1", "3:4", "4:3", "21:9", "2:3", "3:2")
MAX_PROMPT = 2000
_MAX_PAYLOAD = 1_048_576
_FEWER = {name: check for name, check in COMMON.items() if name not in {"bgm", "aspect_ratio"}}
_OF_PICTURES = {name: COMMON[name] for name in ("seed", "payload", "callback_url")}


@dataclass(frozen=True, kw_only=True, slots=True)
class VtrixModel:
    """One model: the rules of its requests, its name and description, and what it makes."""

    rules: Rules
    name: str
    about: str
    picture: bool = False

    @property
    def kind(self) -> str:
        """Return the gateway's word for what the model makes."""
        return "image" if self.picture else "video"


def _are_subjects(value: object) -> bool:
    """Return whether each subject has an id, and one to three images."""
    return isinstance(value, list) and all(
        isinstance(subject, dict)
        and isinstance(subject.get("id"), str)
        and checks.is_list_of_text(subject.get("images"))
        and 1 <= len(subject["images"]) <= 3  # noqa: PLR2004 - the documented maximum
        for subject in value
    )


def _of_subjects(seconds: int, resolutions: tuple[str, ...]) -> Rules:
    return Rules(
        fields={
            "subjects": _are_subjects,
            "prompt": checks.is_text(MAX_PROMPT),
            "audio": checks.is_flag,
            "duration": checks.is_whole(1, seconds),
            "aspect_ratio": checks.is_one_of(*RATIOS_OF_SUBJECTS),
            "resolution": checks.is_one_of(*resolutions),
            **_FEWER,
        },
        required=("subjects", "prompt"),
        items={"subjects": (1, 7)},
    )


VTRIX_MODELS: Mapping[str, VtrixModel] = {
    VTRIX_MODEL: VtrixModel(
        rules=VTRIX_RULES,
        name="Vidu Q2 Pro Reference",
        about="Make a video whose subjects are those of the reference images and videos.",
    ),
    "viduq2_reference2video": VtrixModel(
        rules=_of_subjects(10, ("540p", "720p", "1080p")),
        name="Vidu Q2 Reference to Video",
        about="Make a video of subjects that the prompt names.",
    ),
    "viduq2_pro_fast_reference2video": VtrixModel(
        rules=_of_subjects(8, ("720p", "1080p")),
        name="Vidu Q2 Pro Fast Reference to Video",
        about="Make a video of subjects that the prompt names, fast.",
    ),
    "viduq2_pro_fast_text2video": VtrixModel(
        rules=Rules(
            fields={
                "prompt": checks.is_text(MAX_PROMPT),
                "duration": checks.is_whole(1, 8),
                "resolution": checks.is_one_of("720p", "1080p"),
                **COMMON,
            },
            required=("prompt",),
        ),
        name="Vidu Q2 Pro Fast Text to Video",
        about="Make a video from a prompt, fast.",
    ),
    "viduq2_reference2image": VtrixModel(
        rules=Rules(
            fields={
                "images": checks.is_list_of_text,
                "prompt": checks.is_text(MAX_PROMPT),
                "aspect_ratio": checks.is_one_of(*RATIOS_OF_PICTURES),
                "resolution": checks.is_one_of("1080p", "2K", "4K"),
                **_OF_PICTURES,
            },
            required=("prompt",),
            items={"images": (0, 7)},
            strict=True,
        ),
        name="Vidu Q2 Reference to Image",
        about="Make a picture from a prompt and reference images.",
        picture=True,
    ),
}


def parameter(name: str, kind: str, about: str, *, required: bool = False, **constraints: Any) -> dict[str, Any]:
    """Return one parameter of a specification."""
    return {
        "name": name,
        "path": f"input[0].params.{name}",
        "type": kind,
        "required": required,
        "description": about,
        "constraints": constraints,
        "example": None,
        "children": [],
    }


_PROMPT = parameter("prompt", "string", "Text prompt.", required=True, max_length=MAX_PROMPT)
_SUBJECT_FIELDS = (
    parameter("id", "string", "The name of the subject.", required=True),
    parameter("images", "array", "Images of the subject.", required=True, max_items=3),
    parameter("voice_id", "string", "The voice of the subject."),
)
_SUBJECTS = parameter("subjects", "array", "Subjects with id and images.", required=True, max_items=7) | {
    "children": [{**each, "path": f"input[0].params.subjects[0].{each['name']}"} for each in _SUBJECT_FIELDS]
}
_AUDIO = parameter("audio", "boolean", "Whether to add speech and sound.", default="false")
_SEED = parameter("seed", "integer", "Random seed; 0 is random.")
_PAYLOAD = parameter("payload", "string", "Passed through.", max_length=_MAX_PAYLOAD)
_CALLBACK = parameter("callback_url", "string", "Callback address.")
_OTHERS = (
    _SEED,
    _PAYLOAD,
    parameter("off_peak", "boolean", "Off-peak mode; temporarily unavailable.", default="false"),
    parameter("watermark", "boolean", "Whether to add a watermark.", default="false"),
    parameter("wm_position", "integer", "Watermark position.", default="3", min=1, max=4),
    parameter("wm_url", "string", "Watermark image address."),
    parameter("meta_data", "string", "Metadata identifier."),
    _CALLBACK,
)


def _shape(seconds: int | None, ratios: tuple[str, ...], resolutions: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    duration = parameter("duration", "integer", "Seconds.", default="5", min=1, max=seconds)
    return (
        *([duration] if seconds else []),
        parameter("aspect_ratio", "string", "Aspect ratio.", default="16:9", enum=list(ratios)),
        parameter("resolution", "string", "Resolution.", default=resolutions[0], enum=list(resolutions)),
    )


MORE_PARAMETERS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "viduq2_reference2video": (
        _SUBJECTS,
        _PROMPT,
        _AUDIO,
        *_shape(10, RATIOS_OF_SUBJECTS, ("720p", "540p", "1080p")),
        *_OTHERS,
    ),
    "viduq2_pro_fast_reference2video": (
        _SUBJECTS,
        _PROMPT,
        _AUDIO,
        *_shape(8, RATIOS_OF_SUBJECTS, ("720p", "1080p")),
        *_OTHERS,
    ),
    "viduq2_pro_fast_text2video": (
        _PROMPT,
        parameter("bgm", "boolean", "Whether to add background music.", default="false"),
        *_shape(8, checks.RATIOS, ("720p", "1080p")),
        *_OTHERS,
    ),
    "viduq2_reference2image": (
        parameter("images", "array", "Image references.", max_items=7),
        _PROMPT,
        *_shape(None, RATIOS_OF_PICTURES, ("1080p", "2K", "4K")),
        _SEED,
        _PAYLOAD,
        _CALLBACK,
    ),
}
"""The parameters of the models beside the first one."""
