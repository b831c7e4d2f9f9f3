"""The store: what must not be forgotten, in SQLite or PostgreSQL."""

from service.store.migrate import migrate
from service.store.store import Store, open_store

__all__ = ["Store", "migrate", "open_store"]
