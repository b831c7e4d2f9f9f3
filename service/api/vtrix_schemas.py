"""The bodies of the provider's API as pydantic models, like those of `service.api.schemas`."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from service.api.schema_types import ApiModel, Id, WholeNumber, optional
from service.api.schemas import Fault
from service.domain.models.catalog import known_models

EpochSeconds = Annotated[int, Field(description="Unix time in seconds.", json_schema_extra={"format": "int64"})]


class GenerationInput(ApiModel):
    model_config = ConfigDict(extra="allow")

    params: dict[str, Any]


class GenerationRequest(ApiModel):
    """A task in the form of the provider's API. Unknown keys beside these are ignored."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(json_schema_extra={"enum": [*known_models()]})
    input: Annotated[list[GenerationInput], Field(min_length=1, max_length=1)]


class GenerationContent(ApiModel):
    type: str
    url: str = Field(description="URL at the provider, which may expire soon.")
    duration: float = optional("Seconds.")
    jobId: str = optional()  # noqa: N815 - the provider's name
    watermarked_url: str = optional()
    cover_url: str = optional()


class GenerationOutput(ApiModel):
    content: list[GenerationContent]


class GenerationError(ApiModel):
    code: str | int
    error_message: str


class GenerationUsage(ApiModel):
    cost: str = optional("US dollars, as decimal digits.")
    discount: float = optional()


class GenerationTimes(ApiModel):
    in_queue_at: EpochSeconds
    upload_at: EpochSeconds = optional()
    completed_at: EpochSeconds = optional()


class GenerationTask(ApiModel):
    """A task in the form of the provider's API. A canceled or expired one is `failed`."""

    id: Id
    created_at: EpochSeconds
    status: Literal["in_progress", "completed", "failed"]
    model: str
    progress: float = optional("From 0 to 1, while the task is in progress.")
    output: list[GenerationOutput] = optional("When completed.")
    error: GenerationError = optional("When failed.")
    usage: GenerationUsage = optional("When completed, as far as it is known.")
    metadata: GenerationTimes
    payload: str = optional("The caller's own text.")
    meta_data: str = optional("The caller's own text.")


class GatewayErrorReason(ApiModel):
    code: str
    message: str


class GatewayError(ApiModel):
    """An error in the form of the provider's API; `errors` has every fault of the request."""

    error: GatewayErrorReason
    request_id: str
    errors: list[Fault] = optional()


class EnvelopeStatus(ApiModel):
    code: WholeNumber
    message: str


class SkillModel(ApiModel):
    id: str
    name: str
    type: Literal["video", "image"]
    description: str
    input_modalities: list[str]
    output_modalities: list[str]


class SkillModelPage(ApiModel):
    models: list[SkillModel]
    total: WholeNumber
    page: WholeNumber
    page_size: WholeNumber
    total_pages: WholeNumber


class SkillModels(ApiModel):
    """The provider's envelope with one page of models."""

    status: EnvelopeStatus
    data: SkillModelPage


class SkillApi(ApiModel):
    endpoint: str
    method: str
    headers: dict[str, str]


class SkillParameter(ApiModel):
    name: str
    path: str
    type: str
    required: bool
    description: str
    constraints: dict[str, Any]
    example: str | None = optional("Always null.")
    children: list[Any]


class SkillSpec(ApiModel):
    model_id: str
    name: str
    vendor: str
    type: Literal["video", "image"]
    api: SkillApi
    parameters: list[SkillParameter]


class SkillModelSpec(ApiModel):
    """The provider's envelope with the specification of one model."""

    status: EnvelopeStatus
    data: SkillSpec


class SkillError(ApiModel):
    """An error in the provider's envelope."""

    status: EnvelopeStatus
    data: dict[str, Any] | None = Field(description="Always null.")
