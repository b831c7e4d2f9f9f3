"""Settings that are valid each by itself and contradict each other. Each check returns a line for each fault.

A default never contradicts a given value: only settings that are given are compared with the others.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

from service.domain.archive_address import BucketAddress, archive_address
from service.runtime.config.dotenv import PREFIX
from service.runtime.config.setting_parsers import database_kind
from service.runtime.config.variables import Check

if TYPE_CHECKING:
    from service.runtime.config.settings import Settings

OF_BUCKETS = ("archive_endpoint", "archive_access_key", "archive_secret_key")


def time_faults(settings: "Settings") -> list[str]:
    """Return a line for each time that is longer than another one within which it must pass."""
    waits = sum(settings.retry_schedule, timedelta())
    pairs = [
        ("poll_first", settings.poll_first, "POLL_MAX", settings.poll_max),
        ("poll_first", settings.poll_first, "TASK_DEADLINE", settings.task_deadline),
        ("in_doubt_for", settings.in_doubt_for, "TASK_DEADLINE", settings.task_deadline),
        ("lease", settings.lease, "TASK_DEADLINE", settings.task_deadline),
        ("circuit_max_pause", settings.circuit_max_pause, "RETRY_SCHEDULE in all", waits),
    ]
    return [
        f"{PREFIX}{name.upper()} must be at most {PREFIX}{other}: lower the one or raise the other"
        for name, value, other, limit in pairs
        if name in settings.model_fields_set and value is not None and value > limit
    ]


def shared_key_faults(settings: "Settings") -> list[str]:
    """Return a line if the key of the metrics is also that of a client: it would do more than read them."""
    if settings.metrics_key is None or settings.metrics_key not in {key.key for key in settings.api_keys}:
        return []
    return [
        f"{PREFIX}METRICS_KEY must be another key than those of {PREFIX}API_KEYS, or be unset: an admin's reads too"
    ]


def listener_faults(settings: "Settings") -> list[str]:
    """Return a line if the address for LISTEN is of another kind of database, or there is nothing to listen to."""
    kinds = {database_kind(each) for each in (settings.database_url, settings.database_listen_url) if each}
    if settings.database_listen_url is None or kinds == {"postgresql"}:
        return []
    return [f"{PREFIX}DATABASE_LISTEN_URL must be a direct address of the PostgreSQL that DATABASE_URL names, or unset"]


def bucket_faults(settings: "Settings") -> list[str]:
    """Return a line for settings of a bucket without one: results would be stored nowhere, or elsewhere."""
    given = [name.upper() for name in OF_BUCKETS if getattr(settings, name) is not None]
    if isinstance(settings.archive_url and archive_address(settings.archive_url), BucketAddress):
        return []
    fix = f"needs a bucket in {PREFIX}ARCHIVE_URL, like s3://bucket/prefix: name one there, or leave this setting out"
    return [f"{PREFIX}{name} {fix}" for name in given]


CONTRADICTIONS = (
    Check(
        of=frozenset(
            {"poll_first", "poll_max", "task_deadline", "in_doubt_for", "lease", "circuit_max_pause", "retry_schedule"}
        ),
        faults=time_faults,
    ),
    Check(of=frozenset({"metrics_key", "api_keys"}), faults=shared_key_faults),
    Check(of=frozenset({"database_url", "database_listen_url"}), faults=listener_faults),
    Check(of=frozenset({"archive_url", *OF_BUCKETS}), faults=bucket_faults),
)
