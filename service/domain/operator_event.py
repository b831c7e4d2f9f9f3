"""Operator events: what the person who runs the service should know, for handlers that ask for it. Only computes."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.domain.task import Json

PREFIX = "service."
"""Begins every type of an operator event."""

ALL_OPERATOR_EVENTS = f"{PREFIX}*"
"""Names every operator event in the filter of an endpoint."""


class OperatorEventType(StrEnum):
    """Every type of an operator event."""

    CALLBACKS_LOST = "service.callbacks_lost"
    DEAD_LETTERS = "service.dead_letters"
    ENDPOINT_DISABLED = "service.endpoint_disabled"
    CIRCUIT_OPENED = "service.circuit_opened"
    CIRCUIT_CLOSED = "service.circuit_closed"
    UPSTREAM_REJECTS_KEY = "service.upstream_rejects_key"
    BUDGET_REACHED = "service.budget_reached"
    TASK_OVERDUE = "service.task_overdue"


@dataclass(frozen=True, kw_only=True)
class OperatorEvent:
    """What a handler of operator events receives: `data` depends on the type, and has no secrets.

    Its `id` is the same over attempts; the same condition has one event, whichever process has seen it.
    """

    id: str
    type: str
    at: datetime
    data: Json


OPERATOR_EVENT_NAMES = (*(each.value for each in OperatorEventType), ALL_OPERATOR_EVENTS)
"""What the filter of an admin's endpoint may name beside events of tasks."""


def operator_types_of(filter_: Iterable[str]) -> frozenset[str]:
    """Return the types of operator events that the filter of an endpoint names."""
    names = {name for name in filter_ if name.startswith(PREFIX)}
    return frozenset(each.value for each in OperatorEventType if names & {each.value, ALL_OPERATOR_EVENTS})


def hour_of(at: datetime) -> str:
    """Return the hour of a time, as part of a condition that is reported once an hour."""
    return at.strftime("%Y-%m-%dT%H")


def budget_share(spent: float, budget: float) -> int | None:
    """Return 100 or 80 if so much percent of a budget, or more, are spent; None for less."""
    if budget <= 0:
        return 100
    return next((percent for percent in (100, 80) if spent * 100 >= percent * budget), None)
