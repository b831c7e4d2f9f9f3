"""Vidu's endpoints and models: the fields of each endpoint, and the limits and defaults of each model.

Source: https://platform.vidu.com/docs, the pages of each endpoint. Which model serves which endpoint changes with every
release, so each model is accepted at each endpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from service.sandbox import request_checks as checks
from service.sandbox.request_checks import COMMON, MAX_PROMPT, Check, Rules

TEMPLATES = ("template", "template2video")
"""Both names of the endpoint of templates, which has no model."""

ENDPOINTS = ("reference2video", "img2video", "start-end2video", "text2video", *TEMPLATES)
AMPLITUDES = ("auto", "small", "medium", "large")

_MAX_ID = 256
_MAX_SUBJECTS = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Limits of a model: the lengths in seconds and the resolutions at each length, whose first one is the default."""

    version: str
    durations: tuple[int, ...]
    resolutions: tuple[str, ...] = ("720p", "540p", "1080p")
    resolutions_at: tuple[tuple[int, tuple[str, ...]], ...] = ()
    max_prompt: int = 2000

    @property
    def duration(self) -> int:
        """Return the default length in seconds."""
        return 5 if 5 in self.durations else self.durations[0]  # noqa: PLR2004 - the default of most models

    def resolutions_of(self, duration: object) -> tuple[str, ...]:
        """Return the resolutions at a length in seconds, the default one first."""
        return next((allowed for seconds, allowed in self.resolutions_at if seconds == duration), self.resolutions)


_Q3 = Model(version="q3", durations=tuple(range(1, 17)), max_prompt=MAX_PROMPT)
_Q2 = Model(version="q2", durations=tuple(range(11)))
_Q1 = Model(version="q1", durations=(5,), resolutions=("1080p",))
_SHORT = ("360p", "720p", "1080p")
_LONG = ((8, ("720p",)),)

MODELS: Mapping[str, Model] = {
    "viduq3": _Q3,
    "viduq3-pro": _Q3,
    "viduq3-pro-fast": _Q3,
    "viduq3-turbo": _Q3,
    "viduq2": _Q2,
    "viduq2-pro": Model(version="q2", durations=tuple(range(11)), max_prompt=MAX_PROMPT),
    "viduq2-pro-fast": Model(version="q2", durations=tuple(range(11)), resolutions=("720p", "1080p")),
    "viduq2-turbo": _Q2,
    "viduq1": _Q1,
    "viduq1-classic": _Q1,
    "vidu2.0": Model(version="2.0", durations=(4, 8), resolutions=_SHORT, resolutions_at=_LONG),
    "vidu1.5": Model(version="1.5", durations=(4, 8), resolutions=_SHORT, resolutions_at=_LONG),
}


TEMPLATE_MODEL = "vidu2.0"
"""The model of tasks that name a template."""


def rules_of(endpoint: str, model: Model, body: Mapping[str, object]) -> Rules:
    """Return the rules of a request to an endpoint; the resolutions depend on its duration."""
    duration = body.get("duration", model.duration)
    fields: dict[str, Check] = {
        "model": checks.is_text(_MAX_ID),
        "prompt": checks.is_text(model.max_prompt),
        "duration": checks.is_one_of(*model.durations),
        "resolution": checks.is_one_of(*model.resolutions_of(duration)),
        "movement_amplitude": checks.is_one_of(*AMPLITUDES),
        "audio": checks.is_flag,
        "audio_type": checks.is_text(_MAX_ID),
        "voice_id": checks.is_text(_MAX_ID),
        **COMMON,
    }
    if endpoint == "text2video":
        fields["style"] = checks.is_one_of("general", "anime")
        return Rules(fields=fields, required=("prompt",), strict=True)
    fields["images"] = checks.is_list_of_text
    if endpoint in TEMPLATES:
        fields |= dict.fromkeys(("template", "area", "beast"), checks.is_text(_MAX_ID))
        fields["aspect_ratio"] = checks.is_one_of("", *checks.RATIOS)
        return Rules(fields=fields, required=("template", "images"), items={"images": (1, 7)}, strict=True)
    if endpoint != "reference2video":
        fields["is_rec"] = checks.is_flag
        count = 1 if endpoint == "img2video" else 2
        return Rules(fields=fields, required=("images",), items={"images": (count, count)}, strict=True)
    fields |= {"videos": checks.is_list_of_text, "subjects": _are_subjects, "auto_subjects": checks.is_flag}
    required = ("prompt",) if body.get("subjects") else ("images", "prompt")
    items = {"images": (1, 7), "videos": (0, 2), "subjects": (1, _MAX_SUBJECTS)}
    return Rules(fields=fields, required=required, items=items, strict=True)


def resolution_of(model: Model, body: Mapping[str, object]) -> str:
    """Return the resolution of a valid request: the given one, or the default of the model at its length."""
    given = body.get("resolution")
    return given if isinstance(given, str) else model.resolutions_of(body.get("duration", model.duration))[0]


def media_of(params: Mapping[str, object]) -> tuple[str, ...]:
    """Return all images and videos of a valid request, those of its subjects too."""
    subjects = params.get("subjects")
    holders = [params, *(subjects if isinstance(subjects, list) else [])]
    return tuple(item for holder in holders for name in ("images", "videos") for item in holder.get(name) or ())


def _are_subjects(value: object) -> bool:
    """Return whether each subject has an id or a name, and one to three images."""
    return isinstance(value, list) and all(
        isinstance(subject, dict)
        and isinstance(subject.get("id") or subject.get("name"), str)
        and checks.is_list_of_text(subject.get("images"))
        and 1 <= len(subject["images"]) <= 3  # noqa: PLR2004 - the documented maximum
        for subject in value
    )
