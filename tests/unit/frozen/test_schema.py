"""The migrated schema: every table, column, constraint and index."""

from tests.unit.frozen.provider import Json
from tests.unit.frozen.snapshots import assert_frozen


def test_tables_columns_and_indexes(vtrix: Json) -> None:
    """A process of the previous release uses the same tables."""
    now = {row["name"]: lines(row["sql"]) for row in vtrix["schema"] if not row["name"].startswith("sqlite_")}
    assert_frozen("schema.json", now)


def test_version(vtrix: Json) -> None:
    """The stored schema version."""
    assert vtrix["rows"]["alembic_version"] == [{"version_num": "0018"}]


def lines(sql: str) -> list[str]:
    """Return a statement as its lines, with normalized white space."""
    return [" ".join(line.split()).rstrip(", ") for line in sql.splitlines() if line.strip()]
