"""The bodies of the OpenAI-shaped video API as pydantic models, like those of `service.api.schemas`."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from service.api.schema_types import ApiModel, Id, optional
from service.domain.models.catalog import known_models

VideoVariant = Literal["video", "thumbnail", "spritesheet"]
Address = Annotated[str, Field(pattern=r"^(https?://[^\s/?#]\S*|data:\S+)$")]
EpochSeconds = Annotated[int, Field(description="Unix time in seconds.", json_schema_extra={"format": "int64"})]
Prompt = Annotated[str, Field(min_length=1, max_length=2000, pattern=r"^\s*\S")]
Seconds = Annotated[str, Field(pattern="^[1-8]$", description="Duration in whole seconds, as far as the model allows.")]
Size = Annotated[
    Literal[
        "1280x720", "720x1280", "960x720", "720x960", "720x720", "1920x1080", "1080x1920", "1792x1024", "1024x1792"
    ],
    Field(description="Pixels; each model has its own. The last two are made as 1920x1080 and 1080x1920."),
]


class ImageReference(ApiModel):
    image_url: Address


class VideoRequest(ApiModel):
    """A video. Other parameters of the model may be added by their own names."""

    prompt: Prompt
    model: str = optional("By default one for a prompt alone, or one for references.")
    seconds: Seconds = optional()
    size: Size = optional()
    input_reference: ImageReference = optional("A picture to start from.")
    metadata: dict[str, Any] = optional("Data of the caller, at most 64 KiB of JSON.")


class VideoForm(ApiModel):
    """The same as a form, in which `input_reference` is a file."""

    prompt: Prompt
    model: str = Field(default_factory=str, json_schema_extra={"enum": [*known_models()]})
    seconds: Seconds = optional()
    size: Size = optional()
    input_reference: Annotated[str, Field(json_schema_extra={"format": "binary"})] = optional("A picture or a video.")


class VideoError(ApiModel):
    code: str
    message: str


class Video(ApiModel):
    """A task in the form of OpenAI's API. A canceled or expired one is `failed`."""

    id: Id
    object: Literal["video"]
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: Annotated[int, Field(ge=0, le=100)]
    created_at: EpochSeconds
    completed_at: int | None
    expires_at: int | None
    error: VideoError | None
    prompt: str | None
    remixed_from_video_id: str | None
    seconds: str = Field(description="Empty where the model has no duration.")
    size: str = Field(description="Empty where the parameters do not determine it.")


class VideoList(ApiModel):
    """One page of videos."""

    object: Literal["list"]
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(ApiModel):
    """An erased video."""

    id: Id
    object: Literal["video.deleted"]
    deleted: bool


class McpMessage(ApiModel):
    """A message of JSON-RPC 2.0, as the Model Context Protocol defines it."""

    model_config = ConfigDict(extra="allow")

    jsonrpc: Literal["2.0"]


class OpenAiErrorReason(ApiModel):
    message: str
    type: str
    param: str | None
    code: str | None


class OpenAiError(ApiModel):
    """An error in the form of OpenAI's API."""

    error: OpenAiErrorReason
