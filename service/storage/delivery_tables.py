"""The tables of deliveries, their attempts and sealed secrets, and their indexes; see `tables.py` for the rules."""

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    Index,
    Integer,
    Table,
    UniqueConstraint,
    bindparam,
    select,
)

from service.storage.column_types import JsonText, SafeText, UtcDateTime
from service.storage.tables import literal_word, metadata, partial_index, unindexed

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("event_id", SafeText, nullable=False),
    Column("event_seq", BigInteger, nullable=False),
    Column("task_id", SafeText, nullable=False),
    Column("client", SafeText, nullable=False),
    Column("handler", SafeText, nullable=False),
    Column("lane", SafeText, nullable=False),
    Column("target", JsonText, nullable=False),
    Column("message_id", SafeText, nullable=False),
    Column("status", SafeText, nullable=False),
    Column("attempts", Integer, nullable=False),  # attempts since the last replay
    Column("attempted", Integer, nullable=False),  # attempts over all replays
    Column("due_at", UtcDateTime),
    Column("leased_until", UtcDateTime),
    Column("fence", BigInteger, nullable=False),
    Column("fault", SafeText),
    Column("last_error", SafeText),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("destination", SafeText),
    Column("manual_at", UtcDateTime),  # when a person requested the next attempt
    Column("endpoint_id", SafeText),  # of a paused endpoint it is pending with `due_at` NULL
    Column("circuit", SafeText),  # the circuit that it waits for, or that it probes
    Column("waiting_since", UtcDateTime),
    UniqueConstraint("event_id", "lane", name="deliveries_event_lane"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("delivery_id", SafeText, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("handler", SafeText, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime, nullable=False),
    Column("outcome", SafeText, nullable=False),
    Column("error", SafeText),
    Column("answer_status", Integer),
    Column("answer_body", SafeText),
)

sealed_secrets = Table(
    "sealed_secrets",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("task_id", SafeText, nullable=False),
    Column("sealed", SafeText, nullable=False),
)

PROBE = "probe:"
"""Begins the circuit of a delivery that probes it."""


def is_probe(circuit: str | None) -> bool:
    """Return whether a delivery with this circuit probes it."""
    return circuit is not None and circuit.startswith(PROBE)


PENDING, DELIVERED, DEAD = literal_word("pending"), literal_word("delivered"), literal_word("dead")
IS_PENDING = deliveries.c.status == PENDING
IS_DEAD = deliveries.c.status == DEAD
REQUESTED = (deliveries.c.target != {}).label("requested")


def pending_of_task(of: FromClause = deliveries) -> ColumnElement[bool]:
    """Return the condition that a delivery is pending, for lookups by its task: only one partial index has it.

    Analysed while nothing waits, as is usual, each index of pending deliveries seems to have one entry: PostgreSQL
    would keep a plan that reads a whole other one for each lookup, also when 10,000 deliveries wait.
    """
    return unindexed(of.c.status) == PENDING


def waits_in(lane: ColumnElement[str], task_id: ColumnElement[str], of: FromClause = deliveries) -> ColumnElement[bool]:
    """Return the condition that a delivery is pending in this lane, which is one of this task."""
    return (of.c.task_id == task_id) & (of.c.lane == lane) & pending_of_task(of)


FREE_IN_LANE = (
    select(deliveries.c.id)
    .where(
        waits_in(bindparam("this_lane"), bindparam("this_task")),
        deliveries.c.leased_until.is_(None),
        deliveries.c.circuit.is_(None),
        deliveries.c.due_at <= bindparam("now", type_=UtcDateTime()),
    )
    .with_for_update(skip_locked=True)
)
"""What is due in a lane. A row that a replay has locked is left: it may be waiting for one of this transaction."""

# Only the previous release uses `deliveries_lanes` and `deliveries_by_destination`: a later migration drops them.
# No index of deliveries has `leased_until`: PostgreSQL then renews a lease without an entry in each index.
partial_index("deliveries_due", deliveries.c.handler, deliveries.c.due_at, deliveries.c.event_seq, where=IS_PENDING)
partial_index("deliveries_pending_of_task", deliveries.c.task_id, where=pending_of_task())
partial_index("deliveries_lanes", deliveries.c.lane, deliveries.c.event_seq, where=IS_PENDING)
partial_index(
    "deliveries_by_destination",
    deliveries.c.destination,
    where=IS_PENDING & deliveries.c.destination.is_not(None),
)
partial_index(
    "deliveries_of_endpoints",
    deliveries.c.endpoint_id,
    deliveries.c.due_at,
    where=IS_PENDING & deliveries.c.endpoint_id.is_not(None),
)
partial_index(
    "deliveries_waiting",
    deliveries.c.circuit,
    deliveries.c.due_at,
    where=IS_PENDING & deliveries.c.circuit.is_not(None),
)
partial_index("deliveries_dead", deliveries.c.created_at, deliveries.c.id, where=IS_DEAD)
partial_index("deliveries_dead_by_client", deliveries.c.client, deliveries.c.created_at, deliveries.c.id, where=IS_DEAD)
partial_index("deliveries_dead_by_fault", deliveries.c.fault, deliveries.c.created_at, deliveries.c.id, where=IS_DEAD)
Index("deliveries_newest", deliveries.c.created_at, deliveries.c.id)
Index("deliveries_by_client", deliveries.c.client, deliveries.c.created_at, deliveries.c.id)
Index("deliveries_by_task", deliveries.c.task_id, deliveries.c.event_seq)
Index("attempts_times", attempts.c.finished_at, attempts.c.handler, attempts.c.outcome)  # for retention and counts
Index("sealed_secrets_by_task", sealed_secrets.c.task_id)
