"""A broker is killed with SIGKILL and started again in the middle of many events: none is missing.

`python -m tests.acceptance.brokers [--events N] [BROKER ...]` runs the sandbox, the service and each broker as real
processes on loopback, and prints a table. NATS and Redis sync every message; RabbitMQ has a durable queue. Exits with 1
if an event is missing, a message is of no event, or the events of one task are out of order.
"""

import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

from tests.acceptance.environment import (
    Service,
    histories,
    serve,
    service,
    settings,
    sqlite,
    submit_many,
    upstream,
)
from tests.acceptance.processes import HOST, Json, Workspace, until
from tests.support.broker_consumers import Consumer, NatsConsumer, RabbitmqConsumer, Received, RedisConsumer
from tests.support.brokers import BrokerServer, nats_server, rabbitmq_server, redis_server
from tests.support.ports import free_port

EVENTS_OF_A_TASK = 2
"""Events of a task that runs at once: submitted and completed; some have progressed in between."""

SCHEDULE = ",".join(["0s", "500ms", "1s", *["2s"] * 100])
"""Delays between attempts: a broker may take minutes to start on a busy machine."""

DELIVERY_TIMEOUT = 600.0
"""Seconds for all deliveries, or the first of them."""

BROKERS: Mapping[str, tuple[Callable[[Path], AbstractContextManager[BrokerServer]], Callable[[str], Consumer]]] = {
    "nats": (nats_server, NatsConsumer),
    "redis": (redis_server, RedisConsumer),
    "rabbitmq": (rabbitmq_server, RabbitmqConsumer),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: the history of each task, and the messages in the order in which the broker had them."""

    broker: str
    histories: Mapping[str, list[Json]]
    received: list[Received]
    delivered_before: int
    down: float
    seconds: float

    @property
    def events(self) -> dict[str, list[str]]:
        """Return the ids of the events of each task, in their order."""
        return {task: [row["id"] for row in _rows(rows, "event")] for task, rows in self.histories.items()}

    @property
    def failed_attempts(self) -> int:
        """Return how many attempts found the broker down."""
        rows = [row for history in self.histories.values() for row in _rows(history, "attempt")]
        return sum(row["outcome"] != "delivered" for row in rows)

    @property
    def duplicates(self) -> Counter[str]:
        """Return how often each event came again; each time with the same message id."""
        counts = Counter(each.event_id for each in self.received)
        return Counter({event: count - 1 for event, count in counts.items() if count > 1})

    @property
    def faults(self) -> list[str]:
        """Return a message for each requirement that is not met."""
        expected = {event for events in self.events.values() for event in events}
        found = {each.event_id for each in self.received}
        ids = {each.message_id for each in self.received}
        checks = {
            f"{len(expected - found)} events are missing": expected <= found,
            f"{len(found - expected)} messages are of no event": found <= expected,
            "a duplicate cannot be recognized by its message id": len(ids) == len(found),
            "events of one task are out of order": not self._disordered(),
            "no attempt failed: the broker was not missed": self.failed_attempts > 0,
        }
        return [text for text, met in checks.items() if not met]

    def _disordered(self) -> list[str]:
        """Return the tasks whose events came for the first time in another order than they happened."""
        first: dict[str, int] = {}
        for position, each in enumerate(self.received):
            first.setdefault(each.event_id, position)
        positions = {task: [first.get(event, -1) for event in events] for task, events in self.events.items()}
        return [task for task, found in positions.items() if found != sorted(found)]

    def row(self) -> list[str]:
        """Return the results as a row of the table."""
        events = sum(map(len, self.events.values()))
        found = {each.event_id for each in self.received}
        return [
            *(self.broker, str(len(self.histories)), str(events), str(self.delivered_before), f"{self.down:.1f} s"),
            *(str(self.failed_attempts), str(len(self.received)), str(events - len(found))),
            *(str(self.duplicates.total()), f"{self.seconds:.1f} s"),
        ]


HEADER = [
    "broker",
    "tasks",
    "events",
    "before kill",
    "down",
    "failed attempts",
    "messages",
    "missing",
    "duplicates",
    "took",
]


def _rows(history: list[Json], kind: str) -> Iterator[Json]:
    return (row for row in history if row["kind"] == kind)


async def run(workspace: Workspace, broker: str, events: int) -> Run:
    """Publish about that many events through a broker that is killed after a third of them."""
    running, consumer_of = BROKERS[broker]
    with running(workspace.home / broker) as server:
        consumer = consumer_of(server.url)
        await consumer.create()
        async with upstream(workspace, "--tiny-videos", "--run-time", "100ms") as sandbox:
            more = {"HANDLERS": "broker", "BROKER_URL": server.url, "RETRY_SCHEDULE": SCHEDULE, "LOG_LEVEL": "warning"}
            env = settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(workspace), **more)
            child = await serve(workspace, env)
            async with service(child) as at:
                done = await _run(at, server, consumer, broker, events)
            child.terminate()
            await child.ended()
    return done


async def _run(at: Service, server: BrokerServer, consumer: Consumer, broker: str, events: int) -> Run:
    started = time.monotonic()
    tasks: list[Json] = []

    async def submit() -> None:
        tasks.extend(await submit_many(at, events // EVENTS_OF_A_TASK))

    async with anyio.create_task_group() as group:
        group.start_soon(submit)
        delivered = await _delivered(at, events // 3)
        server.kill()
        killed = time.monotonic()
    await until(partial(_failing, at), what="a delivery that fails", pause=0.1)
    await anyio.to_thread.run_sync(server.start)
    down = time.monotonic() - killed
    await at.wait_until_idle(seconds=DELIVERY_TIMEOUT)
    return Run(
        broker=broker,
        histories=await histories(at, [task["id"] for task in tasks]),
        received=await consumer.read(),
        delivered_before=delivered,
        down=down,
        seconds=time.monotonic() - started,
    )


async def _failing(at: Service) -> bool:
    """Return whether a delivery has failed and is due again.

    The oldest fail first, and then the circuit opens: the newest page alone may never have one.
    """
    cursor: str | None = None
    while True:
        params = {"status": "pending", "limit": "200", **({"cursor": cursor} if cursor else {})}
        page: Json = (await at.http.get("/v1/deliveries", params=params)).raise_for_status().json()
        if any(each["last_error"] for each in page["data"]):
            return True
        cursor = page["next_cursor"]
        if cursor is None:
            return False


async def _delivered(at: Service, count: int) -> int:
    """Wait until that many deliveries are done; return how many are."""
    found = 0

    async def enough() -> bool:
        nonlocal found
        found = int((await at.metrics()).get('boomerang_deliveries{status="delivered"}', 0))
        return found >= count

    await until(enough, what=f"{count} deliveries", seconds=DELIVERY_TIMEOUT, pause=0.02)
    return found


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.acceptance.brokers", description=__doc__)
    parser.add_argument("brokers", nargs="*", metavar="BROKER", help=f"by default all: {', '.join(BROKERS)}")
    parser.add_argument("--events", type=int, default=1000)
    return parser.parse_args()


def main() -> int:
    """Run the brokers, print the table and return the exit code."""
    options = _options()
    runs = []
    for broker in options.brokers or BROKERS:
        with tempfile.TemporaryDirectory() as home, Workspace(home=Path(home), quiet=True) as workspace:
            runs.append(anyio.run(run, workspace, broker, options.events))
    table = [HEADER, *(done.row() for done in runs)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        sys.stdout.write("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() + "\n")
    faults = [f"FAILED: {done.broker}: {fault}\n" for done in runs for fault in done.faults]
    sys.stdout.writelines(faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
