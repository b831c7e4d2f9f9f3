"""Empty PostgreSQL databases for tests, used again: to create one makes some 500 files."""

from dataclasses import dataclass, field

import psycopg
from psycopg import Connection, sql

from tests.support.postgres import create_database, drop_database

MAX_BYTES = 12 * 2**20
"""A database that has grown larger is dropped.

The planner sees the size of an empty table, and a lookup reads the index entries of rows that a test deleted: while
autovacuum analyses a table, nothing drops them.
"""

_SHAPE = """
select array_agg(row(oid, relname, relfilenode, relnatts, reltuples, relchecks, relacl)::text order by oid),
       (select count(*) from pg_db_role_setting
         where setdatabase = (select oid from pg_database where datname = current_database())),
       (select array_agg(row(attrelid, attname, atttypid, attnotnull, attisdropped)::text order by attrelid, attnum)
          from pg_attribute where attrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace)),
       (select count(*) from pg_trigger), (select count(*) from pg_proc)
  from pg_class where relnamespace = 'public'::regnamespace
"""
_TABLES = "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1"
_SEQUENCES = """
select setval(sequence.seqrelid, sequence.seqstart, false) from pg_sequence sequence
 where pg_sequence_last_value(sequence.seqrelid) is not null
"""


@dataclass
class ReusedDatabases:
    """Copies of the migrated database at the address `template`, on the server at `base_url`.

    A database that is returned has the rows of the template again. It is dropped instead if a test changed its schema,
    statistics or settings, or let it grow.
    """

    base_url: str
    template: str
    _free: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        with psycopg.connect(self.template) as connection:
            self._shape = connection.execute(_SHAPE).fetchone()
            self._rows = {table: _copied(connection, table) for table in _filled(connection)}

    def take(self) -> str:
        """Return the address of a database that equals the template."""
        return self._free.pop() if self._free else create_database(self.base_url, template=self.template)

    def release(self, url: str) -> None:
        """Release the database at `url`, to which nothing is connected."""
        if self._emptied(url):
            self._free.append(url)
        else:
            drop_database(self.base_url, url)

    def close(self) -> None:
        """Drop the databases that nobody uses."""
        for url in self._free:
            drop_database(self.base_url, url)
        self._free.clear()

    def _emptied(self, url: str) -> bool:
        with psycopg.connect(url) as connection:
            size = connection.execute("select pg_database_size(current_database())").fetchone()
            if size is None or size[0] > MAX_BYTES or connection.execute(_SHAPE).fetchone() != self._shape:
                return False
            connection.execute("set session_replication_role = replica")  # no foreign key asks for an order
            for table in _filled(connection):
                connection.execute(sql.SQL("delete from {}").format(sql.Identifier(table)))
            for table, rows in self._rows.items():
                with connection.cursor().copy(sql.SQL("copy {} from stdin").format(sql.Identifier(table))) as copy:
                    copy.write(rows)
            connection.execute(_SEQUENCES)
        return True


def _filled(connection: Connection) -> list[str]:
    """Return the tables that have a row."""
    tables = [str(row[0]) for row in connection.execute(_TABLES)]
    first = sql.SQL("(select {} from {} limit 1)")
    found = connection.execute(
        sql.SQL(" union all ").join(first.format(sql.Literal(table), sql.Identifier(table)) for table in tables)
    )
    return [str(row[0]) for row in found]


def _copied(connection: Connection, table: str) -> bytes:
    with connection.cursor().copy(sql.SQL("copy {} to stdout").format(sql.Identifier(table))) as copy:
        return b"".join(bytes(part) for part in copy)
