"""Checks of the processes that share the database: several on one SQLite file, and none on a platform that sleeps."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from service.domain.errors import OperatorError
from service.domain.ports.process_registry import ProcessKeys
from service.runtime.checks.finding import Finding, Installation, fault, ok, skipped, warning
from service.runtime.config.setting_parsers import database_file
from service.runtime.key_agreement import ENDED_AFTER, RENEWAL_INTERVAL
from service.storage.inspection import inspect_database

LIVE = RENEWAL_INTERVAL * ENDED_AFTER
"""How long ago the last renewal of a process may be that still runs."""

WORKING = frozenset({"all", "worker"})
"""The roles of processes that submit, poll and dispatch by themselves."""

MAX_GAP = timedelta(hours=1)
"""The longest time between two single passes: what is due waits as long."""

ON_REQUEST_VARIABLES = {
    "K_SERVICE": "Cloud Run",
    "AWS_LAMBDA_FUNCTION_NAME": "AWS Lambda",
    "VERCEL": "Vercel",
    "FUNCTIONS_WORKER_RUNTIME": "Azure Functions",
}
"""Variables of platforms that by default run a process only while a request is open."""

ONE_FILE_FIX = "run one `boomerang serve`, or one with --role web beside one worker; or use PostgreSQL"
CRON_FIX = "let a cron job call POST /v1/reconcile with an admin's key every minute, or run a `boomerang worker`"
SERVERLESS_FIX = (
    "set BOOMERANG_SERVERLESS=on and let a cron job call POST /v1/reconcile, or keep one instance running all the time"
)


async def check_processes(at: Installation) -> Sequence[Finding]:
    """Check that one process at most works on an SQLite file."""
    try:
        state = await inspect_database(at.settings.database_url)
    except OperatorError:
        return [skipped("the database cannot be read")]
    live = _live(state.processes, at.clock.now())
    working = [each for each in live if each.role in WORKING]
    if len({each.host for each in live}) > 1 and database_file(at.settings.database_url):
        hosts = ", ".join(sorted({each.host or "unknown" for each in live}))
        text = f"processes on several machines share the SQLite file ({hosts}): its locks do not hold between machines"
        return [fault(text, "use PostgreSQL, or run all processes on one machine")]
    if len(working) > 1 and database_file(at.settings.database_url):
        text = f"{len(working)} processes submit and poll on one SQLite file: each has its own rate and concurrency"
        return [warning(text, ONE_FILE_FIX)]
    return [ok(f"{len(live)} {'runs' if len(live) == 1 else 'run'}{_roles(live)}")]


def _live(processes: Sequence[ProcessKeys], now: datetime) -> list[ProcessKeys]:
    return [each for each in processes if abs(now - each.seen_at) < LIVE]


def _roles(live: Sequence[ProcessKeys]) -> str:
    names = sorted(each.role or "of the previous release" for each in live)
    return f": {', '.join(names)}" if names else ""


async def check_wake_up(at: Installation) -> Sequence[Finding]:
    """Check that what is due is done although the platform stops the process between requests."""
    platform = next((name for variable, name in ON_REQUEST_VARIABLES.items() if at.variables.get(variable)), None)
    if at.settings.serverless == "off":
        if platform is None:
            return [ok("the process runs all the time (BOOMERANG_SERVERLESS is off)")]
        return [warning(f"{platform} may run the process only while a request is open", SERVERLESS_FIX)]
    try:
        state = await inspect_database(at.settings.database_url)
    except OperatorError:
        return [skipped("the database cannot be read")]
    if any(each.role in WORKING for each in _live(state.processes, at.clock.now())):
        return [ok("a worker runs beside the instances that sleep")]
    return [_passes(at.clock.now() - state.last_pass if state.last_pass else None)]


def _passes(gap: timedelta | None) -> Finding:
    """Return a finding about the time since the last single pass, None if there was none."""
    if gap is None:
        return fault("no single pass was ever made: what is due waits for the next request", CRON_FIX)
    if gap > MAX_GAP:
        hours = gap.total_seconds() / 3600
        return fault(f"the last single pass was {hours:.0f} h ago: what is due waits for the next request", CRON_FIX)
    return ok(f"the last single pass was {gap.total_seconds() / 60:.0f} min ago")
