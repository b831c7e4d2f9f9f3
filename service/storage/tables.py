"""The tables of tasks, callbacks and events, and the indexes for claims and lists.

A test compares all tables with the migrations.

Statuses in predicates are literals, never parameters: the planner uses a partial index only if it sees its condition.
No index begins with a status: without statistics, SQLite prefers it to the partial index that also has the order.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
    func,
    literal_column,
    text,
)

from service.domain.task import AT_UPSTREAM, SETTLED, Status
from service.storage.column_types import JsonText, SafeText, UtcDateTime

metadata = MetaData()

SEQUENCE = BigInteger().with_variant(Integer, "sqlite")
"""A generated key: SQLite generates values only for a column of the type INTEGER."""

tasks = Table(
    "tasks",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("client", SafeText, nullable=False),
    Column("idempotency_key", SafeText),
    Column("idempotency_digest", SafeText),
    Column("idempotency_value_digest", SafeText),
    Column("provider", SafeText, nullable=False),
    Column("model", SafeText, nullable=False),
    Column("bucket", SafeText, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("deadline_at", UtcDateTime, nullable=False),
    Column("status", SafeText, nullable=False),
    Column("guessed", Boolean, nullable=False),
    Column("unconfirmed", Boolean, nullable=False),
    Column("submission", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("polls", Integer, nullable=False),
    Column("upstream_id", SafeText),
    Column("params", JsonText, nullable=False),
    Column("metadata", JsonText, nullable=False),
    Column("notify", JsonText, nullable=False),
    Column("progress", Float),
    Column("output", JsonText, nullable=False),
    Column("error", JsonText),
    Column("warnings", JsonText, nullable=False),
    Column("usage", JsonText),
    Column("cost", Float),
    Column("resubmissions", Integer, nullable=False, server_default=text("0")),
    Column("settled_by", SafeText),
    Column("submitted_at", UtcDateTime),
    Column("settled_at", UtcDateTime),
    Column("due_at", UtcDateTime),
    Column("leased_until", UtcDateTime),
    Column("fence", BigInteger, nullable=False),
    Column("hinted_at", UtcDateTime),
    Column("hinted_id", SafeText),
    Column("hinted_fact", JsonText),
    Column("polled_at", UtcDateTime),
    Column("empty_since", UtcDateTime),
    Column("status_word", SafeText),
    Column("status_since", UtcDateTime),
    Column("resubmission_of", SafeText),
    Column("note", SafeText),
    Column("erased_at", UtcDateTime),
    Column("input_bytes", BigInteger),  # of a task whose request is not small
    UniqueConstraint("client", "idempotency_key", name="tasks_idempotency"),
)

client_turns = Table(
    "client_turns",
    metadata,
    Column("client", SafeText, primary_key=True),
    Column("turn", BigInteger, nullable=False),  # grows with each submission: the client with the lowest is next
)

inputs = Table(
    "inputs",
    metadata,
    Column("task_id", SafeText, primary_key=True),
    Column("place", SafeText, primary_key=True),
    Column("media_type", SafeText, nullable=False),
    Column("sha256", SafeText, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

input_references = Table(
    "input_references",
    metadata,
    Column("task_id", SafeText, primary_key=True),
    Column("place", SafeText, primary_key=True),
    Column("media_type", SafeText, nullable=False),
    Column("sha256", SafeText, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

input_data = Table(
    "input_data",
    metadata,
    Column("sha256", SafeText, primary_key=True),
    Column("bytes", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

task_waits = Table(
    "task_waits",
    metadata,
    Column("task_id", SafeText, primary_key=True),
    Column("reason", SafeText, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("first_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Column("detail", SafeText),
)

watched_tasks = Table(
    "watched_tasks",
    metadata,
    Column("task_id", SafeText, primary_key=True),
    Column("until", UtcDateTime, nullable=False),
    Column("polled_at", UtcDateTime),  # the last poll for those who watch
)

submission_pauses = Table(
    "submission_pauses",
    metadata,
    Column("name", SafeText, primary_key=True),
    Column("since", UtcDateTime, nullable=False),
    Column("refused_at", UtcDateTime, nullable=False),
    Column("resume_at", UtcDateTime, nullable=False),
    Column("refusals", Integer, nullable=False),
)

inbox = Table(
    "inbox",
    metadata,
    Column("digest", SafeText, primary_key=True),
    Column("task_id", SafeText, nullable=False),  # no foreign key: quarantined callbacks name unknown tasks
    Column("submission", Integer, nullable=False),
    Column("nonce", SafeText),
    Column("verdict", SafeText, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("headers", JsonText, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("nonce", name="inbox_nonce"),
)

refused_callbacks = Table(
    "refused_callbacks",
    metadata,
    Column("task_id", SafeText, primary_key=True),
    Column("reason", SafeText, primary_key=True),
    Column("submission", Integer, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("id", SafeText, nullable=False),
    Column("task_id", SafeText, nullable=False),
    Column("client", SafeText, nullable=False),
    Column("type", SafeText, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("data", JsonText, nullable=False),
    UniqueConstraint("id", name="events_id"),
    sqlite_autoincrement=True,
)

polls = Table(
    "polls",
    metadata,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("task_id", SafeText, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("outcome", SafeText, nullable=False),
    sqlite_autoincrement=True,
)

run_times = Table(
    "run_times",
    metadata,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("bucket", SafeText, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("called_back", Boolean, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,
)


def literal_word(value: str) -> ColumnElement[str]:
    """Return `value`, which must be a constant of this program, as an SQL literal."""
    return literal_column(f"'{value}'")


def one_of(column: ColumnElement[str], values: frozenset[Status]) -> ColumnElement[bool]:
    """Return the condition that `column` is one of `values`, written as in the partial indexes."""
    return column.in_([literal_word(value) for value in sorted(values)])


def unindexed(column: ColumnElement[str]) -> ColumnElement[str]:
    """Return a text column as an expression, which is in no index: SQLite then takes the partial index of few rows."""
    found: ColumnElement[str] = column.op("||")(literal_column("''"))
    return found


def coalesced(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return any other column as such an expression."""
    return func.coalesce(column, column)


CLIENT_IN_GROUPS = unindexed(tasks.c.client)
BUCKET_IN_GROUPS = unindexed(tasks.c.bucket)
"""A column as an expression: SQLite would read a whole index that begins with the column to group by it."""

QUEUED = tasks.c.status == literal_word(Status.QUEUED)
SUBMITTING = tasks.c.status == literal_word(Status.SUBMITTING)
IN_FLIGHT = one_of(tasks.c.status, AT_UPSTREAM)
POLLED = tasks.c.status.not_in([literal_word(Status.QUEUED), literal_word(Status.SUBMITTING)])
OPEN = one_of(tasks.c.status, AT_UPSTREAM | {Status.QUEUED})
ENDED = one_of(tasks.c.status, SETTLED)
IS_COMPLETED = tasks.c.status == literal_word(Status.COMPLETED)
WITHOUT_RESULT = IS_COMPLETED & (tasks.c.output == literal_column("'[]'"))
UNSUCCESSFUL = one_of(tasks.c.status, frozenset({Status.CANCELED, Status.EXPIRED, Status.FAILED}))
RESUBMITTED = tasks.c.resubmissions > literal_column("0")
EXPIRED = tasks.c.status == literal_word(Status.EXPIRED)
HAS_STATUS_WORD = tasks.c.status_word.is_not(None)
OF_USAGE = (tasks.c.client, tasks.c.model)
BY_CLIENT = (tasks.c.client, tasks.c.created_at, tasks.c.id)
UNREAD = inbox.c.verdict == literal_word("unread")
UNREAD_OF_TASK = unindexed(inbox.c.verdict) == literal_word("unread")
"""For callbacks of given tasks: PostgreSQL would read every unread one, since it expects few."""


def partial_index(name: str, *columns: ColumnElement[object], where: ColumnElement[bool]) -> Index:
    """Return an index of the rows for which `where` holds, on both databases: the migrations create it.

    Only SQLite's option is given: that of PostgreSQL would import its dialect, a tenth of a start over SQLite.
    """
    return Index(name, *columns, sqlite_where=where)


partial_index("tasks_queued", tasks.c.created_at, tasks.c.id, where=QUEUED)
partial_index("tasks_queued_by_client", *BY_CLIENT, where=QUEUED)
partial_index("tasks_resubmitted", tasks.c.submitted_at, where=RESUBMITTED)
partial_index("tasks_queued_due", tasks.c.due_at, where=QUEUED)
partial_index("tasks_queued_deadline", tasks.c.deadline_at, where=QUEUED)
partial_index("tasks_polled", tasks.c.due_at, where=POLLED & tasks.c.due_at.is_not(None))
partial_index("tasks_submitting", tasks.c.leased_until, where=SUBMITTING)
partial_index("tasks_at_provider", tasks.c.created_at, tasks.c.id, tasks.c.status, tasks.c.client, where=IN_FLIGHT)
partial_index("tasks_open", tasks.c.created_at, where=OPEN)
partial_index("tasks_costs", tasks.c.bucket, tasks.c.created_at, tasks.c.cost, where=tasks.c.cost.is_not(None))
partial_index("tasks_without_result", *BY_CLIENT, where=WITHOUT_RESULT)
partial_index("tasks_without_result_newest", tasks.c.created_at, tasks.c.id, where=WITHOUT_RESULT)
partial_index("tasks_unsuccessful", tasks.c.created_at, tasks.c.id, tasks.c.status, where=UNSUCCESSFUL)
partial_index("tasks_unsuccessful_by_client", *BY_CLIENT, tasks.c.status, where=UNSUCCESSFUL)
Index("client_turns_last", client_turns.c.turn)
Index("tasks_submissions", tasks.c.submitted_at, tasks.c.bucket, tasks.c.cost, tasks.c.status, *OF_USAGE)
Index("tasks_newest", tasks.c.created_at, tasks.c.id, tasks.c.status)
partial_index("tasks_by_upstream_id", tasks.c.upstream_id, where=tasks.c.upstream_id.is_not(None))
partial_index("tasks_status_words", tasks.c.status_word, tasks.c.status_since, where=HAS_STATUS_WORD)
Index("tasks_by_client", *BY_CLIENT)
partial_index("tasks_open_bytes", tasks.c.client, tasks.c.input_bytes, where=OPEN & tasks.c.input_bytes.is_not(None))
Index("task_waits_last", task_waits.c.last_at)
Index("watched_tasks_until", watched_tasks.c.until)
Index("input_references_by_sha256", input_references.c.sha256)
Index("inbox_by_task", inbox.c.task_id, inbox.c.received_at)
Index("inbox_times", inbox.c.received_at, inbox.c.verdict)  # for retention, and alone for the counts of verdicts
partial_index("inbox_unread", inbox.c.received_at, where=UNREAD)
Index("events_by_task", events.c.task_id, events.c.seq)
Index("events_by_client", events.c.client, events.c.seq)
Index("polls_by_task", polls.c.task_id, polls.c.at)
Index("polls_at", polls.c.at)
Index("run_times_by_bucket", run_times.c.bucket, run_times.c.at)
Index("run_times_at", run_times.c.at)
