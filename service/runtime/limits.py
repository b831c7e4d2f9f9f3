"""The limits and prices of submissions, from the settings."""

from service.domain.prices import Pricing
from service.domain.submission_limits import NO_LIMIT, Limits
from service.runtime.config.settings import Settings


def limits_of(settings: Settings) -> Limits:
    """Return the limits of submissions that the settings give."""
    return Limits(
        max_in_flight=settings.max_in_flight,
        budget=None if settings.budget is None else float(settings.budget),
        budget_each=float(settings.budget_each),
        client_max_in_flight=settings.client_max_in_flight or NO_LIMIT,
        client_budget=settings.client_budget or NO_LIMIT,
        client_rate=settings.client_rate or NO_LIMIT,
        credit_waits=settings.on_no_credit == "wait",
    )


def pricing_of(settings: Settings) -> Pricing:
    """Return how the costs of tasks are counted."""
    credit_price = None if settings.credit_price is None else float(settings.credit_price)
    return Pricing(each=float(settings.budget_each), credit_price=credit_price)
