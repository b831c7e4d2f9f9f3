"""Checks of limits that concern several settings. Each returns a line for each fault."""

from collections.abc import Collection, Mapping
from decimal import Decimal

from service.domain.api_key import ApiKey
from service.domain.submission_limits import HANDLER_CLIENT, ClientLimit
from service.runtime.config.dotenv import PREFIX

CLIENT_LIMITS = ("client_budget", "client_max_in_flight", "client_rate")
"""The settings (fields) that limit each client."""

LOCAL_CLIENT = "local"
"""The client of every task while there are no API_KEYS."""


def unknown_clients(limits: Mapping[str, ClientLimit], api_keys: Collection[ApiKey]) -> list[str]:
    """Return a line for each of `limits`, by setting, whose exceptions name clients without an API key.

    Those of handlers are checked once the handlers are found, see `unknown_handler_clients`.
    """
    known = sorted({key.name for key in api_keys}) or [LOCAL_CLIENT]
    faults = []
    for name, limit in limits.items():
        named = {client for client in limit.exceptions if not client.startswith(HANDLER_CLIENT)}
        if unknown := sorted(named - set(known)):
            faults.append(
                f"{PREFIX}{name} must name clients of {PREFIX}API_KEYS: it names {', '.join(unknown)}, "
                f"known are {', '.join(known)}"
            )
    return faults


def missing_credit_price(provider: str, credit_price: Decimal | None, budgets: Collection[str]) -> list[str]:
    """Return a line for each budget in dollars that cannot be counted, because the provider bills credits."""
    if provider != "vidu" or credit_price is not None:
        return []
    return [
        f"{PREFIX}{name} needs {PREFIX}CREDIT_PRICE with {PREFIX}PROVIDER=vidu, which bills credits: "
        "set it to the US dollars of one credit, like 0.005"
        for name in budgets
    ]


def unknown_handler_clients(limits: Mapping[str, ClientLimit], handlers: Collection[str]) -> list[str]:
    """Return a line for each of `limits` whose exceptions name a handler that is not found; `handlers` are found."""
    known = {HANDLER_CLIENT + name for name in handlers}
    return [
        f"{PREFIX}{name} must name handlers that exist: it names {', '.join(unknown)}, "
        f"known are {', '.join(sorted(handlers)) or 'none'}"
        for name, limit in limits.items()
        if (unknown := sorted({each for each in limit.exceptions if each.startswith(HANDLER_CLIENT)} - known))
    ]
