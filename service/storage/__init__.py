"""Storage in SQLite or PostgreSQL: tables, queues, units of work, queries and migrations."""

from service.storage.migrate import migrate
from service.storage.store import Store, open_store

__all__ = ["Store", "migrate", "open_store"]
