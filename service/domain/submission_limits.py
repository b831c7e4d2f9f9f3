"""The limits of submissions, for all clients together and for each of them. Only computes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from service.domain.credit_pause import CreditPause
from service.domain.prices import DEFAULT_EACH, Price, price_of
from service.domain.task_view import rfc3339

RATE_PERIOD = timedelta(minutes=1)
"""The time in which CLIENT_RATE counts submissions."""

ROUNDING = 1e-9
"""US dollars by which a sum may exceed a budget: sums of binary fractions are not exact."""

LimitName = Literal["max_in_flight", "budget", "client_max_in_flight", "client_budget", "client_rate", "no_credit"]


HANDLER_CLIENT = "handler:"
"""Begins the name of the client of a handler's own tasks; no client with an API key has a colon in its name."""


@dataclass(frozen=True, kw_only=True)
class ClientLimit:
    """A limit for each client, with exceptions by name; None is no limit."""

    default: float | None = None
    exceptions: Mapping[str, float | None] = field(default_factory=dict)

    def of(self, client: str) -> float | None:
        """Return the limit of `client`."""
        return self.exceptions.get(client, self.default)

    @property
    def limits_anyone(self) -> bool:
        """Whether any client has a limit."""
        return self.default is not None or any(value is not None for value in self.exceptions.values())


NO_LIMIT = ClientLimit()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of submissions; None for no limit.

    `max_in_flight` counts unfinished tasks at the provider, `budget` US dollars a UTC day, for all clients together;
    `client_max_in_flight` and `client_budget` the same for each client, `client_rate` its submissions in a minute.
    `budget_each` is what a task of unknown price counts as, in US dollars. With `credit_waits` no task is submitted
    while the provider's account has no credit.
    """

    max_in_flight: int | None = None
    budget: float | None = None
    budget_each: float = DEFAULT_EACH
    client_max_in_flight: ClientLimit = NO_LIMIT
    client_budget: ClientLimit = NO_LIMIT
    client_rate: ClientLimit = NO_LIMIT
    credit_waits: bool = True

    @property
    def counts_in_flight(self) -> bool:
        """Whether the tasks at the provider have to be counted."""
        return self.max_in_flight is not None or self.client_max_in_flight.limits_anyone

    @property
    def counts_dollars(self) -> bool:
        """Whether the cost of the day has to be known."""
        return self.budget is not None or self.client_budget.limits_anyone

    @property
    def counts_submissions(self) -> bool:
        """Whether the submissions of the last minute have to be counted."""
        return self.client_rate.limits_anyone

    @property
    def any(self) -> bool:
        """Whether there is any limit."""
        return self.counts_in_flight or self.counts_dollars or self.counts_submissions


@dataclass(kw_only=True)
class LimitUsage:
    """How much of the limits is used, counted in one transaction.

    By client: `in_flight` counts tasks at the provider, `submitted` the submissions of the last RATE_PERIOD, `spent` US
    dollars of the UTC day, with the prices of tasks whose cost is not known. `known_prices` are US dollars by bucket.
    `credit_pause` is the pause while the provider's account has no credit, and `probes` how many tasks may be tried.
    """

    limits: Limits
    in_flight: Counter[str] = field(default_factory=Counter)
    submitted: Counter[str] = field(default_factory=Counter)
    spent: dict[str, float] = field(default_factory=dict)
    known_prices: Mapping[str, float] = field(default_factory=dict)
    credit_pause: CreditPause | None = None
    probes: int = 0

    def price(self, bucket: str) -> Price:
        """Return what a task of `bucket` counts as."""
        return price_of(bucket, self.known_prices, self.limits.budget_each)

    def full(self) -> LimitName | None:
        """Return the limit of all clients that no further submission fits into, or None."""
        if self.credit_pause and self.probes < 1:
            return "no_credit"
        if self.limits.max_in_flight is not None and self.in_flight.total() >= self.limits.max_in_flight:
            return "max_in_flight"
        if self.limits.budget is not None and sum(self.spent.values()) >= self.limits.budget:
            return "budget"
        return None

    def obstacle(self, client: str, bucket: str) -> LimitName | None:
        """Return the limit that a task of `client` in `bucket` waits for, None if it may be submitted."""
        return self.full() or self._of_client(client, bucket) or self._of_budget(bucket)

    def _of_client(self, client: str, bucket: str) -> LimitName | None:
        limits = self.limits
        maximum = limits.client_max_in_flight.of(client)
        if maximum is not None and self.in_flight[client] >= maximum:
            return "client_max_in_flight"
        maximum = limits.client_rate.of(client)
        if maximum is not None and self.submitted[client] >= maximum:
            return "client_rate"
        maximum = limits.client_budget.of(client)
        if maximum is not None and not self._fits(self.spent.get(client, 0.0), bucket, maximum):
            return "client_budget"
        return None

    def _of_budget(self, bucket: str) -> LimitName | None:
        budget = self.limits.budget
        return None if budget is None or self._fits(sum(self.spent.values()), bucket, budget) else "budget"

    def _fits(self, spent: float, bucket: str, budget: float) -> bool:
        """Return whether a task fits into the rest of a budget.

        A task of unknown price may also be the only one of its day: a budget below BUDGET_EACH would otherwise stop
        all tasks for ever, since no price would become known.
        """
        if spent >= budget:
            return False
        price = self.price(bucket)
        return spent + price.dollars <= budget + ROUNDING or (not price.known and spent <= 0)

    def take(self, client: str, bucket: str) -> bool:
        """Count one more submission if the limits allow it; return whether they do."""
        if self.obstacle(client, bucket):
            return False
        self.probes -= 1 if self.credit_pause else 0
        self.in_flight[client] += 1
        self.submitted[client] += 1
        self.spent[client] = self.spent.get(client, 0.0) + self.price(bucket).dollars
        return True

    def note(self, client: str, bucket: str) -> str | None:
        """Return the sentence that says which limit a task waits for, None if it waits for no limit."""
        reached = self.obstacle(client, bucket)
        return None if reached is None else f"waits: {self._sentence(reached, client, bucket)}"

    def _sentence(self, reached: LimitName, client: str, bucket: str) -> str:
        limits = self.limits
        if reached == "no_credit" and self.credit_pause:
            return no_credit_sentence(self.credit_pause)
        if reached == "max_in_flight":
            return f"MAX_IN_FLIGHT, {limits.max_in_flight} unfinished tasks at the upstream, is reached"
        if reached == "client_max_in_flight":
            maximum = limits.client_max_in_flight.of(client)
            return f"CLIENT_MAX_IN_FLIGHT, {maximum:.12g} unfinished tasks of this client at the upstream, is reached"
        if reached == "client_rate":
            return f"CLIENT_RATE, {limits.client_rate.of(client):.12g} submissions of this client a minute, is reached"
        if reached == "client_budget":
            maximum, spent = limits.client_budget.of(client), self.spent.get(client, 0.0)
            return self._budget_sentence("CLIENT_BUDGET", maximum, spent, bucket)
        return self._budget_sentence("BUDGET", limits.budget, sum(self.spent.values()), bucket)

    def _budget_sentence(self, name: str, budget: float | None, spent: float, bucket: str) -> str:
        if budget is None or spent >= budget:
            return f"the day's {name} of {budget:.12g} dollars is reached"
        price = self.price(bucket)
        counts = f"counts as {price.dollars:.12g}" + ("" if price.known else " until its price is known")
        if price.known and price.dollars > budget:
            return (
                f"{name} of {budget:.12g} dollars a day is too small for any such task, which {counts}, its dearest"
                " reported cost; if that cost was wrong, lower BUDGET_EACH until it is over 100 times of it"
            )
        return f"the rest of the day's {name} of {budget:.12g} dollars is too small: a task like this {counts}"


def no_credit_sentence(pause: CreditPause) -> str:
    """Return the sentence that says what all submissions wait for while the account has no credit."""
    return (
        f"the provider's account has no credit; one task is tried at {rfc3339(pause.resume_at)}, and all"
        " go on as soon as one is accepted"
    )
