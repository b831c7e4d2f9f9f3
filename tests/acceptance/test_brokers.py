"""A short form of `python -m tests.acceptance.brokers`, and the long one."""

import pytest

from tests.acceptance.brokers import Run, run
from tests.acceptance.processes import Workspace
from tests.support.brokers import needs_nats, needs_rabbitmq, needs_redis

COUNT, LONG_COUNT = 100, 1000


def check(done: Run) -> None:
    """Check that no event is missing, and that every duplicate can be recognized."""
    assert done.faults == [], done.row()
    assert sum(map(len, done.events.values())) >= COUNT


@pytest.mark.parametrize("broker", [pytest.param("nats", marks=needs_nats), pytest.param("redis", marks=needs_redis)])
async def test_killed_broker_misses_no_event(workspace: Workspace, broker: str) -> None:
    """A broker that is killed with SIGKILL in the middle of some events has all of them after its restart, in order."""
    check(await run(workspace, broker, COUNT))


@pytest.mark.slow
@pytest.mark.parametrize(
    "broker",
    [
        pytest.param("nats", marks=needs_nats),
        pytest.param("redis", marks=needs_redis),
        pytest.param("rabbitmq", marks=needs_rabbitmq),
    ],
)
async def test_killed_broker_misses_none_of_a_thousand_events(workspace: Workspace, broker: str) -> None:
    """The same for a thousand events, and for RabbitMQ, whose start alone takes ten seconds and more."""
    check(await run(workspace, broker, LONG_COUNT))
