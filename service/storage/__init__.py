"""The store: what must not be forgotten, in SQLite or PostgreSQL."""

from service.storage.migrate import migrate
from service.storage.store import Store, open_store

__all__ = ["Store", "migrate", "open_store"]
