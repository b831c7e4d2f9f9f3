"""Checks of the database: schema, writes, clock, and notifications through a pooler."""

from collections.abc import Sequence
from datetime import datetime

from service.domain.errors import OperatorError
from service.runtime.checks.clocks import compare_clocks
from service.runtime.checks.finding import Finding, Installation, fault, ok, skipped, warning
from service.runtime.config.setting_parsers import database_file
from service.storage.inspection import DatabaseState, inspect_database, notifications_arrive
from service.storage.migrate import is_newer
from service.storage.pg_texts import UNHEARD, UNHEARD_FIX

WRITE_FIX = "let the user that Boomerang runs as write it, or set BOOMERANG_DATABASE_URL to another database"


async def check_database(at: Installation) -> Sequence[Finding]:
    """Check that the database answers, has the newest schema and can be written, and that its clock is right."""
    url = at.settings.database_url
    before: datetime = at.clock.now()
    try:
        state = await inspect_database(url)
    except OperatorError as error:
        text, _, fix = str(error).partition(": ")
        reason = f"{text}: {fix}" if fix else text
        return [fault(reason, WRITE_FIX)]
    findings = [_schema(state, sqlite=database_file(url) is not None)]
    if state.now:
        findings += compare_clocks("the database", state.now, before, at.clock.now())
    return findings


def _schema(state: DatabaseState, *, sqlite: bool) -> Finding:
    if not state.made:
        return ok("the SQLite file is not there yet; the service makes it at its start")
    if state.version == state.needed:
        return ok(f"{'SQLite' if sqlite else 'PostgreSQL'} answers, can be written and has the newest schema")
    if is_newer(state.version):
        return fault(
            f"the database has schema {state.version}, this release knows {state.needed} at most",
            "start the newer release, or name another database",
        )
    has = f"schema {state.version}" if state.version else "no schema"
    if sqlite:
        return warning(
            f"the database has {has}, this release needs {state.needed}",
            "run `boomerang migrate`, or start the service, which does it by itself with SQLite",
        )
    return fault(f"the database has {has}, this release needs {state.needed}", "run `boomerang migrate`")


async def check_notifications(at: Installation) -> Sequence[Finding]:
    """Check that notifications arrive, which they do not through a pooler that lends sessions for a transaction."""
    if database_file(at.settings.database_url):
        return [ok("SQLite needs none")]
    try:
        arrive = await notifications_arrive(at.settings.database_url, at.settings.database_listen_url)
    except OperatorError as error:
        return [skipped(str(error))]
    return [ok("notifications of the database arrive")] if arrive else [warning(UNHEARD, UNHEARD_FIX)]
