"""What tasks cost on a day, by model and client."""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, kw_only=True)
class UsageRow:
    """The submissions of one UTC day of one model and client; costs are in US dollars, as the provider reported them.

    `unpriced` counts those without a reported cost that may cost something. `without_result` counts those that were
    paid and have no result, `without_result_cost` is their part of `cost`.
    """

    day: date
    model: str
    client: str
    tasks: int
    cost: float
    unpriced: int
    without_result: int
    without_result_cost: float


def dollars(amount: float) -> str:
    """Return an amount as decimal digits, rounded to a millionth."""
    text = f"{amount:.6f}".rstrip("0").rstrip(".")
    return "0" if text in {"", "-0"} else text
