"""New SQLite databases for tests that need many: migrated once in each test process, then copied."""

import tempfile
from pathlib import Path

from service.storage import migrate

PRIVATE = 0o600
"""The mode of files that the service creates."""

_template: dict[str, bytes] = {}


async def place_database(path: Path) -> None:
    """Write a new, migrated database to `path`, which must not exist."""
    if not _template:
        with tempfile.TemporaryDirectory() as place:
            made = Path(place) / "template.db"
            await migrate(f"sqlite:///{made}")
            _template["sqlite"] = made.read_bytes()
    _write(path)


def _write(path: Path) -> None:
    path.touch(PRIVATE, exist_ok=False)
    path.write_bytes(_template["sqlite"])


async def database(directory: Path) -> str:
    """Return the address of a new, migrated database in `directory`."""
    path = directory / "loop.db"
    await place_database(path)
    return f"sqlite:///{path}"
