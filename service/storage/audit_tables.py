"""The tables of the audit log and of ended sign-ins; see `tables.py` for the rules."""

from sqlalchemy import Column, Index, Table

from service.storage.column_types import SafeText, UtcDateTime
from service.storage.tables import SEQUENCE, metadata

audit_log = Table(
    "audit_log",
    metadata,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", SafeText, nullable=False),
    Column("road", SafeText, nullable=False),
    Column("action", SafeText, nullable=False),
    Column("target", SafeText, nullable=False),
    Column("detail", SafeText, nullable=False),
    sqlite_autoincrement=True,
)

ended_sign_ins = Table(
    "ended_sign_ins",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("expires_at", UtcDateTime, nullable=False),
)

Index("audit_log_by_actor", audit_log.c.actor, audit_log.c.seq)
Index("audit_log_by_action", audit_log.c.action, audit_log.c.seq)
Index("audit_log_by_target", audit_log.c.target, audit_log.c.seq)
Index("ended_sign_ins_expires", ended_sign_ins.c.expires_at)
