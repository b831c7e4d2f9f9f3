"""The models of the Vidu Q2 family.

Source: the vendor's API page of each model. Where a page is ambiguous, the class accepts everything that the page
documents as valid under either reading. Parameters are not shared between models: one of the same name may differ on
another page.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from service.domain.media.limits import MB, MediaLimits
from service.domain.models.base import ModelParams
from service.domain.models.media_checks import MediaItems, MediaList
from service.domain.models.parameter_types import Address, Range, Text, UnavailableFlag

IMAGES = MediaLimits(
    kind="image",
    formats={"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/webp": "webp"},
    max_bytes=50 * MB,
)
VIDEOS = MediaLimits(
    kind="video",
    formats={
        "video/mp4": "mp4",
        "video/x-msvideo": "avi",
        "video/avi": "avi",
        "video/msvideo": "avi",
        "video/vnd.avi": "avi",
        "video/quicktime": "mov",
        "video/mov": "mov",
    },
    max_bytes=100 * MB,
    below_bytes=20 * MB,
    max_seconds=(8.0, 5.0),
)


class ViduQ2ProReference(ModelParams):
    """Makes a video whose subjects look like those of the reference images and videos."""

    model_name: ClassVar[str] = "viduq2_pro_reference"
    max_request_bytes: ClassVar[int] = 20 * MB
    run_time_by: ClassVar[tuple[str, ...]] = ("duration", "resolution", "videos", "off_peak")

    images: Annotated[MediaItems, MediaList(limits=IMAGES, minimum=1, maximum=7, maximum_with={"videos": 4})] = Field(
        description="Reference images, by address or as base64 data URIs."
    )
    # The page marks videos as required, but its notes and Vidu's own page make them optional.
    videos: Annotated[MediaItems, MediaList(limits=VIDEOS, minimum=0, maximum=2)] = Field(
        default_factory=list,
        description="Reference videos: one of at most 8 seconds, or two of at most 5 seconds each.",
    )
    prompt: Annotated[str, Text(max_chars=5000, blank=False)] = Field(description="What the video shall show.")
    bgm: bool = Field(default=False, description="Add music; no effect when duration is 9 or 10.")
    duration: Annotated[int, Range(0, 10)] = Field(
        default=5, description="Length of the video in seconds; 0 lets the model choose."
    )
    seed: Annotated[int, Range()] = Field(
        default_factory=int, description="Random seed; left out or 0 is a random one."
    )
    aspect_ratio: Literal["16:9", "9:16", "4:3", "3:4", "1:1"] = Field(
        default="16:9", description="Width to height of the video."
    )
    resolution: Literal["540p", "720p", "1080p"] = Field(default="720p", description="Resolution of the video.")
    payload: Annotated[str, Text(max_chars=1_048_576)] = Field(
        default_factory=str,
        description="The caller's own text; it stays here and comes back in the task's events.",
    )
    off_peak: UnavailableFlag = Field(
        default=False, description="Run within 48 hours for fewer credits; temporarily unavailable upstream."
    )
    watermark: bool = Field(default=False, description="Add a watermark.")
    wm_position: Annotated[int, Range(1, 4)] = Field(
        default=3, description="Where the watermark is: 1 top left, 2 top right, 3 bottom right, 4 bottom left."
    )
    wm_url: Address = Field(default_factory=str, description="Image for the watermark instead of the fixed text.")
    meta_data: Annotated[str, Text()] = Field(
        default_factory=str, description="Metadata to go with the task, commonly a JSON object."
    )
    callback_url: Address = Field(
        default_factory=str, description="Where this service shall announce the task's events."
    )

    def warnings(self) -> tuple[str, ...]:
        """Return one sentence for each parameter without effect that is given and differs from its default."""
        warnings = []
        if self.bgm and self.duration in {9, 10}:
            warnings.append("bgm has no effect when duration is 9 or 10")
        return (*warnings, *unused_watermark(self))


def unused_watermark(params: ModelParams) -> tuple[str, ...]:
    """Return a warning for each field of a watermark that is given without one."""
    if getattr(params, "watermark", False):
        return ()
    without_effect = [name for name in ("wm_position", "wm_url") if params.differs_from_default(name)]
    return tuple(f"{name} has no effect without watermark" for name in without_effect)
