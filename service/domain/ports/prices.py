"""The known prices of tasks."""

from typing import Protocol


class PriceList(Protocol):
    """Reads what tasks have cost."""

    async def known(self, model: str, *, each: float) -> dict[str, float]:
        """Return the known prices of a model in US dollars by bucket, at most MAX_BUCKETS of them.

        Costs that are not plausible for `each` (BUDGET_EACH) determine no price.
        """
