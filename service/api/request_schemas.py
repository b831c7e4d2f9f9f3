"""The request bodies of the API as pydantic models, for the schemas of `/openapi.json`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, RootModel, Tag

from service.api.schema_types import SECRET_PATTERN, ApiModel, optional
from service.domain.event_routing import WEBHOOK
from service.domain.models.catalog import known_models
from service.domain.notify import MAX_ENTRIES
from service.domain.task import EventType

Address = Annotated[str, Field(pattern=r"^https?://[^\s/?#]\S*$", max_length=8192)]


class NotifyEntryFields(ApiModel):
    url: Address | None = optional()
    events: Annotated[list[EventType], Field(min_length=1)] | None = optional("Without it, all events of the handler.")
    secret: Annotated[str, Field(pattern=SECRET_PATTERN)] | None = optional("Signs in place of all other secrets.")


class WebhookEntry(NotifyEntryFields):
    """Events that are posted to an address of the caller."""

    handler: Literal["webhook"]
    url: Address


class HandlerEntry(NotifyEntryFields):
    """Events for a handler that is loaded. May have further fields, which the handler defines."""

    model_config = ConfigDict(extra="allow")

    handler: str = Field(description="The name of a loaded handler.", json_schema_extra={"not": {"const": WEBHOOK}})


def _entry_tag(entry: Any) -> str:
    handler = entry.get("handler") if isinstance(entry, Mapping) else getattr(entry, "handler", None)
    return WEBHOOK if handler == WEBHOOK else "other"


AnyNotifyEntry = Annotated[
    Annotated[WebhookEntry, Tag(WEBHOOK)] | Annotated[HandlerEntry, Tag("other")], Discriminator(_entry_tag)
]


class NotifyEntry(RootModel[AnyNotifyEntry]):
    """A recipient of the events of a task."""


class TaskRequest(ApiModel):
    """A task for a model. No text may contain the character U+0000."""

    model: str = Field(json_schema_extra={"enum": [*known_models()]})
    params: dict[str, Any]
    metadata: dict[str, Any] = optional(
        "Data of the caller, at most 64 KiB of JSON. The task and its events contain it."
    )
    notify: Annotated[list[NotifyEntry], Field(max_length=MAX_ENTRIES)] | None = optional(
        "Further recipients of the events of the task."
    )


class ResubmitRequest(ApiModel):
    """Changes of a task that is submitted again. Without the body, or without `params`, nothing is changed."""

    params: dict[str, Any] = optional("Parameters to change; null removes one.")


class ProviderCallback(RootModel[Any]):
    """A callback in the provider's own format."""
