"""The bodies of stored content and its links as pydantic models, like those of `service.api.schemas`."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, RootModel

from service.api.schema_types import ApiModel, Moment, optional

MIN_EXPIRES_IN, MAX_EXPIRES_IN, EXPIRES_IN = 10, 7 * 86_400, 3600
"""Seconds for which a link may be valid, and is by default."""

Variant = Literal["video", "thumbnail"]


class ContentBytes(RootModel[str]):
    """The bytes of a stored file."""

    model_config = ConfigDict(json_schema_extra={"format": "binary"})


class LinkRequest(ApiModel):
    """A link to the content of a task."""

    expires_in: Annotated[int, Field(ge=MIN_EXPIRES_IN, le=MAX_EXPIRES_IN)] = optional(
        f"Seconds for which the link is valid, by default {EXPIRES_IN}."
    )


class Link(ApiModel):
    """An address of the content of a task that needs no key; `output` and `variant` may be added to it."""

    url: str
    expires_at: Moment
