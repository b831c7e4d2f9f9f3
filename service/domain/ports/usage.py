"""Reports of what tasks cost."""

from datetime import date
from typing import Protocol

from service.domain.usage import UsageRow


class UsageReports(Protocol):
    """Reads costs."""

    async def first_day(self, begin: date, last: date) -> date | None:
        """Return the first UTC day from `begin` to `last` with a submission of any client, or None."""

    async def of_day(self, day: date, *, client: str | None) -> list[UsageRow]:
        """Return the rows of one UTC day, of one client or (None) of all, ordered by model and client."""
