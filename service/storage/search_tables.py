"""The words of tasks. A task has the number of its first event, so that its words are in the order of submissions."""

from sqlalchemy import BigInteger, Column, Table

from service.storage.column_types import SafeText
from service.storage.tables import metadata

search_words = Table(
    "search_words",
    metadata,
    Column("word", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

search_progress = Table(
    "search_progress",
    metadata,
    Column("name", SafeText, primary_key=True),
    Column("seq", BigInteger, nullable=False),
)
