"""Settings that are valid each by itself and contradict each other. Each check returns a line for each fault.

Times are not compared: a first poll after POLL_MAX, or after TASK_DEADLINE, only means that callbacks are expected.
"""

from typing import TYPE_CHECKING

from service.runtime.config.dotenv import PREFIX
from service.runtime.config.setting_parsers import database_kind
from service.runtime.config.variables import Check

if TYPE_CHECKING:
    from service.runtime.config.settings import Settings

OF_BUCKETS = ("archive_endpoint", "archive_access_key", "archive_secret_key")


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
    """Return a line for settings of a bucket without an address of the archive: results would be stored nowhere."""
    given = [name.upper() for name in OF_BUCKETS if getattr(settings, name) is not None]
    if settings.archive_url is not None:
        return []
    fix = f"needs a bucket in {PREFIX}ARCHIVE_URL, like s3://bucket/prefix: name one there, or leave this setting out"
    return [f"{PREFIX}{name} {fix}" for name in given]


CONTRADICTIONS = (
    Check(of=frozenset({"metrics_key", "api_keys"}), faults=shared_key_faults),
    Check(of=frozenset({"database_url", "database_listen_url"}), faults=listener_faults),
    Check(of=frozenset({"archive_url", *OF_BUCKETS}), faults=bucket_faults),
)
