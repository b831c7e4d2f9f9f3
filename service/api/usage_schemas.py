"""The report of costs as pydantic models."""

from datetime import date
from typing import Annotated

from pydantic import Field

from service.api.schema_types import ApiModel, WholeNumber

Dollars = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]{1,6})?$", description="US dollars, as decimal digits.")]


class UsageSums(ApiModel):
    """Numbers and costs of submissions."""

    tasks: WholeNumber = Field(description="Tasks that were submitted.")
    cost: Dollars
    unpriced: WholeNumber = Field(description="Tasks whose cost is not reported and may not be zero.")
    without_result: WholeNumber = Field(description="Tasks that were paid and have no result.")
    without_result_cost: Dollars


class UsageEntry(UsageSums):
    """The submissions of one UTC day of one model and client."""

    day: date
    model: str
    client: str


class UsageReport(ApiModel):
    """Costs by day, model and client, oldest day first."""

    from_: date = Field(alias="from")
    to: date
    data: list[UsageEntry]
    total: UsageSums = Field(description="The sums over `data`.")
    next_cursor: str | None = Field(description="The `cursor` of the rest of the days; null at the end.")
