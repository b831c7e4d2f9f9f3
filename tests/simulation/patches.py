"""Replacements of the machine during a run: the driver, threads, random ids, and the log."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch
from uuid import UUID

import structlog
from sqlalchemy.dialects import sqlite

from service.deliveries.running_delivery import RunningDelivery
from service.storage import due_deliveries
from service.storage.column_types import EPOCH
from service.storage.delivery_queue import SqlDeliveryQueue
from service.storage.retention import SqlRetention
from service.storage.run_time_stats import SqlRunTimeStats
from service.storage.task_queue import SqlTaskQueue
from tests.simulation.engines import Engines
from tests.simulation.loop import OWNER
from tests.simulation.sqlite import template

ENGINES = Engines()
THREAD_FUNCTIONS = (
    "anyio.to_thread.run_sync",
    "service.api.task_acceptor.run_sync",
)


POLLS = (
    "SELECT 1 FROM tasks WHERE (leased_until IS NULL OR leased_until <= :now) AND CASE status"
    " WHEN 'queued' THEN deadline_at <= :now WHEN 'submitting' THEN false ELSE due_at <= :now END"
)
SUBMISSIONS = (
    "SELECT 1 FROM tasks WHERE status = 'queued' AND due_at <= :now AND deadline_at > :now"
    " AND (:most IS NULL OR :most > (SELECT count(*) FROM tasks WHERE status IN"
    " ('submitting', 'in_progress', 'in_doubt')))"
)
MAY_FIND: dict[tuple[type, str], Callable[[], str]] = {
    (SqlDeliveryQueue, "claim"): lambda: _compiled(due_deliveries.DUE_HEADS),
    (SqlTaskQueue, "claim_submissions"): lambda: SUBMISSIONS,
    (SqlTaskQueue, "claim_polls"): lambda: POLLS,
    (SqlTaskQueue, "sweep"): lambda: "SELECT 1 FROM tasks WHERE status = 'submitting'",
    (SqlRunTimeStats, "run_times"): lambda: "SELECT 1 FROM run_times",
    (SqlRetention, "prune"): lambda: "SELECT 1 WHERE false",
}
"""Queries without results cost most of a run: a short query finds out first. Faithful runs always run the full one."""


def _hash_by_id(delivery: RunningDelivery) -> int:
    """Return a hash that orders sets of running deliveries by id: the default one depends on memory addresses."""
    return UUID(delivery.claim.id).int


COMPILED: dict[int, str] = {}
NAMED = sqlite.dialect(paramstyle="named")


def _compiled(statement: Any) -> str:
    """Return a statement of the storage as plain SQL."""
    if id(statement) not in COMPILED:
        compiled = statement.limit(None).compile(dialect=NAMED)
        offsets = {name: value for name, value in compiled.params.items() if name.startswith("param_")}
        COMPILED[id(statement)] = re.sub(r":(param_\d+)", lambda found: str(offsets[found[1]]), str(compiled))
    return COMPILED[id(statement)]


def _skip_empty(original: Callable[..., Any], query: Callable[[], str]) -> Callable[..., Any]:
    counts = original.__annotations__["return"] in {int, "int"}

    async def claim(self: Any, *args: Any, **given: Any) -> Any:
        host: Any = OWNER.get()
        if host.fast and not any(host.may_find(query(), values) for values in _query_values(args, given)):
            await asyncio.sleep(0)
            return 0 if counts else []
        return await original(self, *args, **given)

    return claim


def _query_values(args: Any, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the parameters of each short query of a call."""
    now = {"now": given.get("now")}
    if args:  # the capacity of handlers
        due = now | {"since": EPOCH}
        yield from (due | {"handler_name": name} for capacity in args[0] for name in capacity.names)
    else:
        yield now | {"most": given["limits"].max_in_flight if "limits" in given else None}


class Errors:
    """Collects the error lines of the service's log: each of them is a violation."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, _logger: object, _name: str, line: MutableMapping[str, Any]) -> Any:
        """Keep a line, unless a dead process wrote it or the storage was stalled; nothing is printed."""
        owner = OWNER.get()
        if (owner is None or not owner.dead) and line.get("error") != "StoreUnavailable":
            self.lines.append(_format_line(line))
        raise structlog.DropEvent


def _format_line(line: MutableMapping[str, Any]) -> str:
    error = line.get("exc_info")
    return f"logged: {line.get('event')} {line.get('error', '')} {error!r}"


async def _inline(work: Callable[..., Any], *args: Any, **_options: Any) -> Any:
    """Run in the loop what would run in a thread."""
    return work(*args)


@contextmanager
def stand_ins() -> Iterator[Errors]:
    """Apply the replacements inside the block; yield the error lines of the service's log."""
    template()
    errors = Errors()
    before = structlog.get_config()
    with ExitStack() as stack:
        stack.enter_context(patch("service.storage.database.sqlite_engine", ENGINES.engine))
        stack.enter_context(patch.object(RunningDelivery, "__hash__", _hash_by_id))
        for name in THREAD_FUNCTIONS:
            stack.enter_context(patch(name, _inline))
        for (owner, name), query in MAY_FIND.items():
            stack.enter_context(patch.object(owner, name, _skip_empty(getattr(owner, name), query)))
        structlog.configure(
            processors=[errors],
            wrapper_class=structlog.make_filtering_bound_logger(40),
            cache_logger_on_first_use=False,
        )
        stack.callback(structlog.configure, **before)
        yield errors
