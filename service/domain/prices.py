"""What tasks cost in US dollars: reported costs, credits, and the price of tasks that no cost is known of."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from service.domain.task import Fact

DEFAULT_EACH = 1.0
"""US dollars that a task counts as while no price is known."""

MAX_PLAUSIBLE_FACTOR = 100.0
"""A reported cost of more than this many times BUDGET_EACH is not plausible."""

MAX_OUTLIER_FACTOR = 10.0
"""A cost of more than this many times the median of its bucket does not determine the bucket's price."""


@dataclass(frozen=True, kw_only=True)
class Pricing:
    """The operator's settings for costs: BUDGET_EACH and CREDIT_PRICE in US dollars; None for no CREDIT_PRICE."""

    each: float = DEFAULT_EACH
    credit_price: float | None = None

    @property
    def max_plausible(self) -> float:
        """The highest cost of one task, in US dollars, that counts as reported."""
        return MAX_PLAUSIBLE_FACTOR * self.each

    def cost(self, fact: Fact) -> float | None:
        """Return the cost that `fact` reports in US dollars, not negative and finite; None if it reports none."""
        if fact.usage and fact.usage.cost is not None:
            return _amount(fact.usage.cost)
        if fact.credits is None or self.credit_price is None:
            return None
        return _amount(fact.credits * self.credit_price)

    def fault(self, fact: Fact) -> str | None:
        """Return what is wrong with the cost in `fact`: `unreadable`, `implausible`, or None."""
        if fact.faulty_cost:
            return "unreadable"
        cost = self.cost(fact)
        return "implausible" if cost is not None and cost > self.max_plausible else None


def _amount(value: str | float) -> float | None:
    try:
        amount = float(value)
    except ValueError:
        return None
    return amount if math.isfinite(amount) and amount >= 0 else None


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a task counts as in US dollars before its own cost is known; `known` if a task of its bucket had a cost."""

    dollars: float
    known: bool


def model_of(bucket: str) -> str:
    """Return the model of a bucket like `viduq2_pro_reference/5/720p`."""
    return bucket.partition("/")[0]


def dearest(costs: Sequence[float]) -> float | None:
    """Return the highest of `costs` without outliers, None if there are none.

    The highest cost, and not the mean: a task never counts as less than what may be billed for it. One absurd cost
    among plausible ones must not become the price of every later task.
    """
    if not costs:
        return None
    limit = MAX_OUTLIER_FACTOR * median(costs)
    return max([cost for cost in costs if cost <= limit], default=max(costs))


def price_of(bucket: str, known: Mapping[str, float], each: float) -> Price:
    """Return the price of a task in `bucket`; `known` are the known prices by bucket, `each` is BUDGET_EACH.

    Without a price of its own, a bucket (another duration or resolution) costs as much as the dearest one of its model,
    and at least `each`: it may be dearer than everything known.
    """
    if bucket in known:
        return Price(dollars=known[bucket], known=True)
    model = model_of(bucket)
    return Price(
        dollars=max([each, *(price for other, price in known.items() if model_of(other) == model)]), known=False
    )
