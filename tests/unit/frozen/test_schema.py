"""The migrated schema: every table, column, constraint and index."""

from tests.unit.frozen.provider import Json
from tests.unit.frozen.snapshots import assert_frozen


def test_tables_columns_and_indexes(vtrix: Json) -> None:
    """A running process of the release before works on the same tables."""
    now = {row["name"]: lines(row["sql"]) for row in vtrix["schema"] if not row["name"].startswith("sqlite_")}
    assert_frozen("schema.json", now)


def test_version(vtrix: Json) -> None:
    """The word by which a process tells a schema that fits from an older or a newer one."""
    assert vtrix["rows"]["alembic_version"] == [{"version_num": "0002"}]


def lines(sql: str) -> list[str]:
    """Return a statement as its lines, without white space that means nothing."""
    return [" ".join(line.split()).rstrip(", ") for line in sql.splitlines() if line.strip()]
