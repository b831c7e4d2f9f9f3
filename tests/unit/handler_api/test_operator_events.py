"""Registration of handlers for operator events."""

import pytest

from service import Event, Handlers, OperatorEvent, Tools
from service.domain.errors import BadHandler
from service.domain.operator_event import OperatorEventType, budget_share


async def _ops(event: OperatorEvent, tools: Tools) -> None:
    assert event.type
    assert tools.message_id is not None


def test_handler_of_operator_events_alone_receives_no_event_of_a_task() -> None:
    """It asks for every type by default."""
    handlers = Handlers()
    handlers.on_operator_event(name="ops")(_ops)
    [handler] = list(handlers)
    assert (handler.events, handler.operator_events) == (frozenset(), frozenset(OperatorEventType))
    assert [job.full_name for job in handler.jobs] == ["ops/operator-event"]


def test_handler_of_tasks_may_receive_both() -> None:
    """The two functions have one name, and one pause."""
    handlers = Handlers()

    @handlers.on("task.completed", name="both")
    async def both(event: Event, tools: Tools) -> None:
        assert event.id
        assert tools.message_id is not None

    handlers.on_operator_event("service.dead_letters", name="both")(_ops)
    [handler] = list(handlers)
    assert handler.events == {"task.completed"}
    assert handler.operator_events == {"service.dead_letters"}


def test_mistakes_are_refused_with_the_fix() -> None:
    """An unknown type, a sync function, and operator events where events of tasks are meant."""
    handlers = Handlers()
    with pytest.raises(BadHandler, match=r"unknown events service\.dead_letter; known are service\.callbacks_lost"):
        handlers.on_operator_event("service.dead_letter", name="ops")(_ops)
    with pytest.raises(BadHandler, match="on_operator_event"):
        handlers.on("service.dead_letters", name="ops")(_ops)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("spent", "budget", "share"), [(0.0, 1.0, None), (0.8, 1.0, 80), (0.99, 1.0, 80), (1.0, 1.0, 100), (0.0, 0.0, 100)]
)
def test_share_of_a_budget(spent: float, budget: float, share: int | None) -> None:
    """80 and 100 percent are reported."""
    assert budget_share(spent, budget) == share
