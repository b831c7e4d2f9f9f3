"""Texts about PostgreSQL for operators; the module needs no driver."""

UNHEARD = "notifications do not arrive: new work is found on the intervals of the jobs only"
UNHEARD_FIX = (
    "the address leads through a pooler that lends sessions for a transaction; "
    "set BOOMERANG_DATABASE_LISTEN_URL to a direct address of the same database"
)
