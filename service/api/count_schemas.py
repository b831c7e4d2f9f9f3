"""The counts of tasks as pydantic models."""

from pydantic import Field

from service.api.schema_types import ApiModel, ItemList, WholeNumber
from service.domain.task import Status


class StatusCount(ApiModel):
    """How many tasks have a status."""

    status: Status
    count: WholeNumber
    more: bool = Field(description="Whether there are, or may be, more than `count`.")


class StatusCounts(ItemList[StatusCount]):
    """The number of tasks by status."""
