"""Limits of submissions, drawn at random for a scenario."""

from decimal import Decimal
from random import Random
from typing import Any

from service.domain.submission_limits import ClientLimit


def drawn_limits(random: Random) -> dict[str, Any]:
    """Return the limits of all clients together."""
    max_in_flight = random.choice((None, None, None, 1, 2))
    return {"max_in_flight": max_in_flight, "budget": random.choice((None,) * 7 + (Decimal("0.5"),))}


def drawn_credit(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return settings and switches of an account whose credit runs out, drawn from numbers of their own."""
    random = Random(f"credit {seed}")  # noqa: S311 - a run needs a seed, not secrecy
    settings = {"on_no_credit": random.choice(("wait", "wait", "fail"))}
    refused = random.choice((None,) * 5 + (f"first {random.randint(1, 8)}",))
    return settings, {} if refused is None else {"out_of_credit": refused}


def drawn_client_limits(seed: int) -> dict[str, Any]:
    """Return limits of single clients, drawn from numbers of their own."""
    random = Random(f"clients {seed}")  # noqa: S311 - a run needs a seed, not secrecy
    return {
        "client_max_in_flight": random.choice((None,) * 4 + (ClientLimit(default=1), ClientLimit(default=2))),
        "client_budget": random.choice((None,) * 7 + (ClientLimit(default=0.75),)),
        "client_rate": random.choice((None,) * 5 + (ClientLimit(default=1), ClientLimit(default=2))),
    }
