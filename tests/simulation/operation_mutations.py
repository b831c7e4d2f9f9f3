"""Known faults of what operators do, injected one by one; see `mutations.py`."""

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from sqlalchemy import false

from service.deliveries.handler_slots import HandlerSlots
from service.domain.logged_event import LoggedEvent
from service.domain.resubmission import changed_params
from service.storage import endpoint_health, erasure, operator_events, replays
from service.storage.event_log import SqlEventLog
from service.tasks import event_feed, task_service
from service.tasks.bulk_replay import BulkReplay


def stream_skips_an_event() -> AbstractContextManager[Any]:
    """Resume a stream of events after the next one."""
    original = event_feed.EventFeed.listener

    def listener(self: event_feed.EventFeed, wanted: Any, *, after: int) -> event_feed.Listener:
        return original(self, wanted, after=after + 1 if after else after)

    return patch.object(event_feed.EventFeed, "listener", listener)


def stream_repeats_an_event() -> AbstractContextManager[Any]:
    """Resume a stream of events before the last one."""
    original = event_feed.EventFeed.listener

    def listener(self: event_feed.EventFeed, wanted: Any, *, after: int) -> event_feed.Listener:
        return original(self, wanted, after=max(0, after - 1))

    return patch.object(event_feed.EventFeed, "listener", listener)


def stream_out_of_order() -> AbstractContextManager[Any]:
    """Stream the events that are read together in reverse."""
    original = SqlEventLog.load

    async def load(self: SqlEventLog, numbers: Any) -> list[LoggedEvent]:
        return (await original(self, numbers))[::-1]

    return patch.object(SqlEventLog, "load", load)


def pause_ignored() -> AbstractContextManager[Any]:
    """Make deliveries of paused handlers."""
    return patch.object(HandlerSlots, "paused", lambda _self, _handler: False)


def bulk_replay_not_written() -> AbstractContextManager[Any]:
    """Report a bulk replay, and replay nothing."""

    async def replay(_self: BulkReplay, _found: Any, _wanted: Any, due_at: Any, _report: Any) -> Any:
        return due_at

    return patch.object(BulkReplay, "_replay", replay)


def edits_ignored() -> AbstractContextManager[Any]:
    """Submit a task again without its changes."""

    def changed(old: Any, blobs: Any, _changes: Any) -> Any:
        return changed_params(old, blobs, {})

    return patch.object(task_service, "changed_params", changed)


def events_not_erased() -> AbstractContextManager[Any]:
    """Keep the contents of the events of an erased task."""

    async def erase(_connection: Any, _task_id: Any) -> None:
        return None

    return patch.object(erasure, "_erase_events", erase)


def erased_task_replayed() -> AbstractContextManager[Any]:
    """Replay deliveries of an erased task."""
    return patch.object(replays, "ERASED_TASKS", replays.ERASED_TASKS.where(false()))


def endpoint_never_disabled() -> AbstractContextManager[Any]:
    """Go on with an endpoint whose receiver is gone."""
    return patch.object(endpoint_health, "disabled_reason", lambda _health, _attempt: None)


def missed_event_not_replayed() -> AbstractContextManager[Any]:
    """Replay only dead letters to an endpoint, and no event that it never had a delivery of."""

    async def insert(_connection: Any, _rows: Any) -> int:
        return 0

    return patch("service.storage.endpoint_store.insert_missed", insert)


def operator_event_without_job() -> AbstractContextManager[Any]:
    """Note that a handler has got an operator event, and store no job for it."""
    original = operator_events._job

    def job(*args: Any) -> Any:
        return original(*args) | {"due_at": None}

    return patch.object(operator_events, "_job", job)


OPERATION_MUTATIONS = (
    stream_skips_an_event,
    stream_repeats_an_event,
    stream_out_of_order,
    pause_ignored,
    bulk_replay_not_written,
    edits_ignored,
    events_not_erased,
    erased_task_replayed,
    endpoint_never_disabled,
    missed_event_not_replayed,
    operator_event_without_job,
)
