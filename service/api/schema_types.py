"""The base class and the field types of the models of request and response bodies."""

from typing import Annotated, Any, Generic, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service.domain.ports.queues import ResponsibleParty

_64 = "[A-Za-z0-9+/]"
SECRET_PATTERN = f"^whsec_(({_64}{{4}}){{8,21}}({_64}{{2}}==)?|({_64}{{4}}){{8,20}}{_64}{{3}}=)$"
ID_PATTERN = "^[A-Za-z0-9_-]{1,64}$"

T = TypeVar("T")

Id = Annotated[str, Field(pattern=ID_PATTERN)]
WholeNumber = Annotated[int, Field(ge=0)]
ByteCount = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]
Moment = Annotated[AwareDatetime, Field(description="RFC 3339, in UTC, to the millisecond.")]
FaultOwner = Annotated[ResponsibleParty, Field(description="The party responsible for a dead letter.")]


def optional(description: str | None = None) -> Any:
    """Return the field of an optional key; its type decides whether null is allowed."""
    return Field(default_factory=lambda: None, description=description)


class ApiModel(BaseModel):
    """A JSON object of the API. Types are not converted and unknown keys are refused.

    A validator is built when it is first used: to build all of them would take a twentieth of the time of a start.
    """

    model_config = ConfigDict(strict=True, extra="forbid", defer_build=True)


class ItemList(ApiModel, Generic[T]):
    data: list[T]


class Page(ItemList[T], Generic[T]):
    next_cursor: str | None = Field(description="The `cursor` of the next page; null on the last page.")
