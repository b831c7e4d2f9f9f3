"""The tables that control deliveries; see `tables.py` for the rules."""

from sqlalchemy import Column, Table

from service.storage.column_types import JsonText, SafeText, UtcDateTime
from service.storage.tables import metadata

handler_pauses = Table(
    "handler_pauses",
    metadata,
    Column("handler", SafeText, primary_key=True),
    Column("names", JsonText, nullable=False),  # every name that its deliveries may have
    Column("since", UtcDateTime, nullable=False),
    Column("by", SafeText, nullable=False),
)
