"""The base class of the parameters of all models, and the context of their validators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from service.domain.blob import Blob
from service.domain.errors import Fault
from service.domain.media.limits import Inspector
from service.domain.models.value_checks import JsonValue


class ModelParams(BaseModel):
    """The parameters of one model: the class follows the vendor's API page, its docstring is the description.

    `model_name` is the name that clients and the provider use. `max_request_bytes` limits the JSON sent to the
    provider, in bytes. `produces` is what its results are. `run_time_by` names the parameters that determine how long a
    task runs. A field's default is the provider's default for a missing parameter; a `default_factory` means that the
    page documents none. Null is not the same as missing, so no default is None. Create instances with
    `validation.validate_params`: several validators need its `ValidationContext`.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        defer_build=True,  # the validators of forty models are built when they are first used, not at every start
    )

    model_name: ClassVar[str]
    max_request_bytes: ClassVar[int]
    produces: ClassVar[Literal["video", "image"]] = "video"
    run_time_by: ClassVar[tuple[str, ...]] = ()

    def warnings(self) -> tuple[str, ...]:
        """Return one sentence for each parameter without effect that is given and differs from its default."""
        return ()

    def differs_from_default(self, name: str) -> bool:
        """Return whether the parameter `name` is given, with another value than the API page documents as default."""
        default: object = type(self).model_fields[name].get_default(call_default_factory=True, validated_data={})
        return name in self.model_fields_set and getattr(self, name) != default


@dataclass(frozen=True, kw_only=True)
class ValidationContext:
    """The input of validators beside their own value, and the blobs that they collect.

    `given` are the caller's known parameters. `inspect` opens inline media; None checks their structure only.
    `allow_unavailable` accepts flags that the API page marks as temporarily unavailable.
    """

    given: Mapping[str, JsonValue]
    inspect: Inspector | None = None
    allow_unavailable: bool = False
    blobs: list[Blob] = field(default_factory=list)


def validation_error(faults: Sequence[Fault]) -> ValidationError:
    """Return one pydantic error that holds every fault; each `loc` is relative to the validated value."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError("parameter", "{message}", {"message": fault.msg}), loc=fault.loc, input=None
        )
        for fault in faults
    ]
    return ValidationError.from_exception_data("parameters", details)
