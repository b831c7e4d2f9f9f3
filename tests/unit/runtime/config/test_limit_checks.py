"""Limits that do not fit to other settings stop the start."""

import pytest

from service.domain.errors import BadSetting
from service.domain.submission_limits import ClientLimit, Limits
from service.runtime.config.required_settings import start_checks
from service.runtime.config.settings import load_settings
from service.runtime.limits import limits_of, pricing_of

KEYS = {"BOOMERANG_API_KEYS": "bot=example-key-of-bot,ops=example-key-of-ops:admin"}


def faults(**given: str) -> list[str]:
    """Return the lines of the refusal of settings whose names have no prefix."""
    with pytest.raises(BadSetting) as refusal:
        load_settings(KEYS | {f"BOOMERANG_{name}": value for name, value in given.items()})
    return str(refusal.value).splitlines()


@pytest.mark.parametrize("name", ["CLIENT_BUDGET", "CLIENT_MAX_IN_FLIGHT", "CLIENT_RATE"])
def test_exception_for_an_unknown_client_is_refused(name: str) -> None:
    """A misspelt client would keep the common limit: the line names it and the known ones."""
    assert faults(**{name: "5,bto=20,ops=none"}) == [
        f"BOOMERANG_{name} must name clients of BOOMERANG_API_KEYS: it names bto, known are bot, ops"
    ]


def test_handler_has_a_limit_of_its_own() -> None:
    """The tasks of a handler belong to the client `handler:NAME`, which has no key; its handler must exist."""
    limit = load_settings(KEYS | {"BOOMERANG_CLIENT_BUDGET": "5,handler:log=20"}).client_budget
    assert limit == ClientLimit(default=5, exceptions={"handler:log": 20})
    assert limit.of("handler:log") == 20
    given = {"BOOMERANG_UPSTREAM_KEY": "x", "BOOMERANG_CLIENT_RATE": "handler:lgo=20", "BOOMERANG_HANDLERS": "log"}
    with pytest.raises(BadSetting) as refusal:
        load_settings(KEYS | given, checks=start_checks(host=None))
    assert str(refusal.value).startswith(
        "BOOMERANG_CLIENT_RATE must name handlers that exist: it names handler:lgo, known are archive, broker, discord"
    )


def test_limit_of_a_handler_of_another_process_is_accepted() -> None:
    """Each process submits the tasks of all clients: all must have the same limits, whatever HANDLERS names in them."""
    given = {"BOOMERANG_UPSTREAM_KEY": "x", "BOOMERANG_CLIENT_BUDGET": "20,handler:telegram=1"}
    settings = load_settings(KEYS | given | {"BOOMERANG_HANDLERS": "log"}, checks=start_checks(host=None))
    assert limits_of(settings).client_budget.of("handler:telegram") == 1


def test_local_client_is_known_without_keys() -> None:
    """Without API keys every task belongs to the client `local`."""
    assert load_settings({"BOOMERANG_CLIENT_RATE": "local=5"}).client_rate == ClientLimit(exceptions={"local": 5})


@pytest.mark.parametrize(("name", "value"), [("BUDGET", "25"), ("CLIENT_BUDGET", "5"), ("CLIENT_BUDGET", "none,bot=5")])
def test_budget_in_dollars_needs_a_price_for_credits(name: str, value: str) -> None:
    """Vidu bills credits: without CREDIT_PRICE a budget would stop nothing, so the start is refused with the fix."""
    [line] = faults(PROVIDER="vidu", **{name: value})
    assert line.startswith(f"BOOMERANG_{name} needs BOOMERANG_CREDIT_PRICE with BOOMERANG_PROVIDER=vidu")
    load_settings(KEYS | {"BOOMERANG_PROVIDER": "vidu", f"BOOMERANG_{name}": value, "BOOMERANG_CREDIT_PRICE": "0.005"})
    load_settings(KEYS | {f"BOOMERANG_{name}": value})


def test_limits_reach_the_use_cases() -> None:
    """Every limit of the settings is one of the limits of submissions."""
    settings = load_settings(
        KEYS
        | {
            "BOOMERANG_PROVIDER": "vidu",
            "BOOMERANG_MAX_IN_FLIGHT": "7",
            "BOOMERANG_BUDGET": "25",
            "BOOMERANG_BUDGET_EACH": "2.50",
            "BOOMERANG_CREDIT_PRICE": "0.005",
            "BOOMERANG_CLIENT_BUDGET": "5.50,bot=0",
            "BOOMERANG_CLIENT_MAX_IN_FLIGHT": "3",
            "BOOMERANG_CLIENT_RATE": "30,ops=none",
        }
    )
    assert limits_of(settings) == Limits(
        max_in_flight=7,
        budget=25.0,
        budget_each=2.5,
        client_budget=ClientLimit(default=5.5, exceptions={"bot": 0}),
        client_max_in_flight=ClientLimit(default=3),
        client_rate=ClientLimit(default=30, exceptions={"ops": None}),
    )
    assert (pricing_of(settings).each, pricing_of(settings).credit_price) == (2.5, 0.005)
