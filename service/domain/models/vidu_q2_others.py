"""More models of the Vidu Q2 family.

Source: the vendor's API page of each model, as far as it could be read; what a page is not known to lack is as on the
page of `viduq2_pro_reference`. Parameters are not shared between models: one of the same name may differ on another
page.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from service.domain.media.limits import MB
from service.domain.models.base import ModelParams
from service.domain.models.media_checks import MediaItems, MediaList
from service.domain.models.parameter_types import Address, Excludes, Range, Text, UnavailableFlag
from service.domain.models.subjects import SubjectList, Subjects
from service.domain.models.vidu_q2 import IMAGES, unused_watermark

MAX_PROMPT = 2000
SUBJECTS = SubjectList(images=MediaList(limits=IMAGES, minimum=1, maximum=3), maximum=7, max_images=7)

OffPeakWithoutAudio = Annotated[UnavailableFlag, Excludes(other="audio")]
Payload = Annotated[str, Text(max_chars=1_048_576)]
Prompt = Annotated[str, Text(max_chars=MAX_PROMPT, blank=False)]


def _field(description: str, default: Any = ...) -> Any:
    """Return a field; a `default` that is a class makes a value that the page does not document as a default."""
    if isinstance(default, type):
        return Field(default_factory=default, description=description)
    return Field(default=default, description=description)


SUBJECTS_FIELD = _field("What the video shows: each has an id, which the prompt mentions as @id, and 1 to 3 images.")
PROMPT_FIELD = _field("What the video shall show.")
AUDIO_FIELD = _field("Add speech and sound; not together with off_peak.", default=False)
DURATION_FIELD = _field("Length of the video in seconds.", 5)
SEED_FIELD = _field("Random seed; left out or 0 is a random one.", int)
RATIO_FIELD = _field("Width to height of the video.", "16:9")
RESOLUTION_FIELD = _field("Resolution of the video.", "720p")
PAYLOAD_FIELD = _field("The caller's own text; it stays here and comes back in the task's events.", str)
OFF_PEAK_FIELD = _field("Run within 48 hours for fewer credits; temporarily unavailable upstream.", default=False)
WATERMARK_FIELD = _field("Add a watermark.", default=False)
WM_POSITION_FIELD = _field("Where the watermark is: 1 top left, 2 top right, 3 bottom right, 4 bottom left.", 3)
WM_URL_FIELD = _field("Image for the watermark instead of the fixed text.", str)
META_DATA_FIELD = _field("Metadata to go with the task, commonly a JSON object.", str)
CALLBACK_FIELD = _field("Where this service shall announce the task's events.", str)


class ViduQ2Reference2Video(ModelParams):
    """Makes a video of subjects, each of which has images of its own and is named in the prompt."""

    model_name: ClassVar[str] = "viduq2_reference2video"
    max_request_bytes: ClassVar[int] = 20 * MB
    run_time_by: ClassVar[tuple[str, ...]] = ("duration", "resolution", "audio", "off_peak")

    subjects: Annotated[Subjects, SUBJECTS] = SUBJECTS_FIELD
    prompt: Prompt = PROMPT_FIELD
    audio: bool = AUDIO_FIELD
    duration: Annotated[int, Range(1, 10)] = DURATION_FIELD
    seed: Annotated[int, Range()] = SEED_FIELD
    aspect_ratio: Literal["16:9", "9:16", "1:1"] = RATIO_FIELD
    resolution: Literal["540p", "720p", "1080p"] = RESOLUTION_FIELD
    payload: Payload = PAYLOAD_FIELD
    off_peak: OffPeakWithoutAudio = OFF_PEAK_FIELD
    watermark: bool = WATERMARK_FIELD
    wm_position: Annotated[int, Range(1, 4)] = WM_POSITION_FIELD
    wm_url: Address = WM_URL_FIELD
    meta_data: Annotated[str, Text()] = META_DATA_FIELD
    callback_url: Address = CALLBACK_FIELD

    def warnings(self) -> tuple[str, ...]:
        """Return one sentence for each subject that the prompt does not mention, and for unused watermark fields."""
        return (*_unmentioned(self.subjects, self.prompt), *unused_watermark(self))


class ViduQ2ProFastReference2Video(ModelParams):
    """Makes a video of subjects quickly, each of which has images of its own and is named in the prompt."""

    model_name: ClassVar[str] = "viduq2_pro_fast_reference2video"
    max_request_bytes: ClassVar[int] = 20 * MB
    run_time_by: ClassVar[tuple[str, ...]] = ("duration", "resolution", "audio", "off_peak")

    subjects: Annotated[Subjects, SUBJECTS] = SUBJECTS_FIELD
    prompt: Prompt = PROMPT_FIELD
    audio: bool = AUDIO_FIELD
    duration: Annotated[int, Range(1, 8)] = DURATION_FIELD
    seed: Annotated[int, Range()] = SEED_FIELD
    aspect_ratio: Literal["16:9", "9:16", "1:1"] = RATIO_FIELD
    resolution: Literal["720p", "1080p"] = RESOLUTION_FIELD
    payload: Payload = PAYLOAD_FIELD
    off_peak: OffPeakWithoutAudio = OFF_PEAK_FIELD
    watermark: bool = WATERMARK_FIELD
    wm_position: Annotated[int, Range(1, 4)] = WM_POSITION_FIELD
    wm_url: Address = WM_URL_FIELD
    meta_data: Annotated[str, Text()] = META_DATA_FIELD
    callback_url: Address = CALLBACK_FIELD

    def warnings(self) -> tuple[str, ...]:
        """Return one sentence for each subject that the prompt does not mention, and for unused watermark fields."""
        return (*_unmentioned(self.subjects, self.prompt), *unused_watermark(self))


class ViduQ2ProFastText2Video(ModelParams):
    """Makes a video from a prompt alone."""

    model_name: ClassVar[str] = "viduq2_pro_fast_text2video"
    max_request_bytes: ClassVar[int] = 20 * MB
    run_time_by: ClassVar[tuple[str, ...]] = ("duration", "resolution", "off_peak")

    prompt: Prompt = PROMPT_FIELD
    bgm: bool = _field("Add music.", default=False)
    duration: Annotated[int, Range(1, 8)] = DURATION_FIELD
    seed: Annotated[int, Range()] = SEED_FIELD
    aspect_ratio: Literal["16:9", "9:16", "3:4", "4:3", "1:1"] = RATIO_FIELD
    resolution: Literal["720p", "1080p"] = RESOLUTION_FIELD
    payload: Payload = PAYLOAD_FIELD
    off_peak: UnavailableFlag = OFF_PEAK_FIELD
    watermark: bool = WATERMARK_FIELD
    wm_position: Annotated[int, Range(1, 4)] = WM_POSITION_FIELD
    wm_url: Address = WM_URL_FIELD
    meta_data: Annotated[str, Text()] = META_DATA_FIELD
    callback_url: Address = CALLBACK_FIELD

    def warnings(self) -> tuple[str, ...]:
        """Return one sentence for each watermark field without effect."""
        return unused_watermark(self)


class ViduQ2Reference2Image(ModelParams):
    """Makes a picture from a prompt, and from reference images if there are any."""

    model_name: ClassVar[str] = "viduq2_reference2image"
    max_request_bytes: ClassVar[int] = 20 * MB
    produces: ClassVar[Literal["video", "image"]] = "image"
    run_time_by: ClassVar[tuple[str, ...]] = ("resolution", "images")

    images: Annotated[MediaItems, MediaList(limits=IMAGES, minimum=0, maximum=7)] = Field(
        default_factory=list, description="Reference images, by address or as base64 data URIs."
    )
    prompt: Prompt = _field("What the picture shall show.")
    seed: Annotated[int, Range()] = SEED_FIELD
    aspect_ratio: Literal["auto", "16:9", "9:16", "1:1", "3:4", "4:3", "21:9", "2:3", "3:2"] = _field(
        "Width to height of the picture.", "16:9"
    )
    resolution: Literal["1080p", "2K", "4K"] = _field("Resolution of the picture.", "1080p")
    payload: Payload = PAYLOAD_FIELD
    callback_url: Address = CALLBACK_FIELD


def _unmentioned(subjects: Subjects, prompt: str) -> tuple[str, ...]:
    """Return a warning for each subject whose `@id` is not in the prompt."""
    names = [str(each["id"]) for each in subjects]
    return tuple(f"the prompt does not mention the subject @{name}" for name in names if f"@{name}" not in prompt)
