"""Costs and prices: reported amounts, credits, absurd values, and what an unknown price counts as."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.prices import Price, Pricing, dearest, price_of
from service.domain.task import Fact, Status, Usage
from service.domain.task_update import fact_from_json, fact_to_json


def reported(cost: str | None = None, *, credits: float | None = None, faulty: bool = False) -> Fact:  # noqa: A002
    """Return a completed fact with a cost."""
    usage = None if cost is None else Usage(cost=cost)
    return Fact(status=Status.COMPLETED, usage=usage, credits=credits, faulty_cost=faulty)


@pytest.mark.parametrize(
    ("fact", "cost"),
    [
        (reported("0.35"), 0.35),
        (reported("0"), 0.0),
        (reported(), None),
        (reported("-1"), None),
        (reported("nan"), None),
        (reported("inf"), None),
        (reported("free"), None),
        (reported(credits=70), 0.35),
        (reported(credits=-70), None),
        (reported("0.5", credits=70), 0.5),
    ],
)
def test_reported_cost(fact: Fact, cost: float | None) -> None:
    """A cost is an amount in dollars, or credits at CREDIT_PRICE; anything else is unknown."""
    found = Pricing(credit_price=0.005).cost(fact)
    assert found == (None if cost is None else pytest.approx(cost))


def test_credits_without_a_price_are_unknown() -> None:
    """Without CREDIT_PRICE credits are no dollars."""
    assert Pricing().cost(reported(credits=70)) is None


@pytest.mark.parametrize(
    ("fact", "fault"),
    [
        (reported("100"), None),
        (reported("100.01"), "implausible"),
        (reported(credits=20_001), "implausible"),
        (reported(faulty=True), "unreadable"),
        (reported(), None),
    ],
)
def test_fault_of_a_cost(fact: Fact, fault: str | None) -> None:
    """More than 100 times BUDGET_EACH is not plausible, a value that is no amount not readable."""
    assert Pricing(credit_price=0.005).fault(fact) == fault


def test_dearest_ignores_outliers() -> None:
    """The dearest cost is the price, except for one of more than ten times the median."""
    assert dearest([]) is None
    assert dearest([0.3, 0.5, 0.4]) == 0.5
    assert dearest([0.3, 0.5, 0.4, 90.0]) == 0.5
    assert dearest([90.0]) == 90.0


@given(st.lists(st.floats(min_value=0.01, max_value=100), min_size=1, max_size=30))
def test_price_is_one_of_the_costs_and_no_less_than_the_median(costs: list[float]) -> None:
    """Whatever the costs are, the price is one that occurred, and not below the middle one."""
    price = dearest(costs)
    assert price in costs
    assert price is not None
    assert price >= sorted(costs)[(len(costs) - 1) // 2]


def test_price_of_a_new_bucket() -> None:
    """A new duration counts as the dearest of its model and at least as BUDGET_EACH; other models do not count."""
    known = {"a/5": 0.35, "a/8": 2.0, "b/5": 9.0}
    assert price_of("a/5", known, 1.0) == Price(dollars=0.35, known=True)
    assert price_of("a/10", known, 1.0) == Price(dollars=2.0, known=False)
    assert price_of("c/5", known, 1.0) == Price(dollars=1.0, known=False)
    assert price_of("a/10", {"a/5": 0.35}, 1.0) == Price(dollars=1.0, known=False)


def test_stored_fact_keeps_its_credits() -> None:
    """The fact in a hint keeps its cost; one that the release before stored has none."""
    fact = reported("0.5", credits=70, faulty=True)
    assert fact_from_json(fact_to_json(fact)) == fact
    old = {name: value for name, value in fact_to_json(fact).items() if name not in {"credits", "faulty_cost"}}
    assert fact_from_json(old) == reported("0.5")
