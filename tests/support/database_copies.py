"""New databases for tests that need many: migrated once, then copied."""

import tempfile
from pathlib import Path

from service.storage import migrate

_template: dict[str, bytes] = {}


async def database(directory: Path) -> str:
    """Return the address of a new, migrated database in `directory`."""
    if not _template:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "template.db"
            await migrate(f"sqlite:///{path}")
            _template["sqlite"] = path.read_bytes()
    path = directory / "loop.db"
    path.write_bytes(_template["sqlite"])
    return f"sqlite:///{path}"
