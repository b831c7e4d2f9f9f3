"""The command `boomerang doctor`: check the installation, and say how to fix what is wrong."""

import os
import sys
from collections import Counter
from typing import Any

import anyio
import click
from rich.text import Text

from service.cli import EXIT_FAILED
from service.cli.output import clean, print_json, result_console, show_hanging
from service.cli.server import DOTENV, host_option, port_option

STYLES = {"ok": "green", "warning": "yellow", "fault": "bold red", "skipped": "dim"}
OUTCOME_WIDTH = max(map(len, STYLES))


@click.command()
@host_option
@port_option("$PORT, else 8080")
@click.option("--check", "names", multiple=True, metavar="NAME", help="Only this check; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def doctor(host: str, port: int | None, names: tuple[str, ...], as_json: bool) -> None:
    """Check this installation, and say how to fix what is wrong.

    It reads the settings, the database, the provider, the public address (a signed probe makes the round trip that a
    callback would make), the archive and the handlers. It changes nothing and costs nothing; run it with the settings
    and as the user of the service, whether the service runs or not. --host and --port are those of `boomerang serve`.

    Exit codes: 0 no fault, perhaps warnings; 1 a fault.
    """
    findings: list[dict[str, str]] = []

    async def run() -> None:
        from service.runtime.checks.doctor import CHECKS, examine  # noqa: PLC0415 - heavy

        if unknown := sorted({*names} - (known := {check.name for check in CHECKS})):
            raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(sorted(known))}", param_hint="--check")
        async for check, finding in examine(os.environ, DOTENV, host=host, port=port, names=names):
            row = {"check": check, "outcome": finding.outcome, "text": finding.text, "fix": finding.fix}
            findings.append(row)
            if not as_json:
                _print(row)

    anyio.run(run, backend_options={"use_uvloop": sys.platform != "win32"})
    counts = Counter(row["outcome"] for row in findings)
    if as_json:
        print_json({"findings": findings, "faults": counts["fault"], "warnings": counts["warning"]})
    else:
        result_console().print(_summary(counts), soft_wrap=True)
    if counts["fault"]:
        raise click.exceptions.Exit(EXIT_FAILED)


def _print(row: dict[str, Any]) -> None:
    head = Text(f"{row['outcome']:<{OUTCOME_WIDTH}}  ", style=STYLES[row["outcome"]])
    fix = f"; fix: {row['fix']}" if row["fix"] else ""
    show_hanging(head, clean(f"{row['check']}: {row['text']}{fix}"))


def _summary(counts: Counter[str]) -> str:
    faults, warnings = counts["fault"], counts["warning"]
    if not faults and not warnings:
        return "Everything is in order."
    found = f"{faults} {'fault' if faults == 1 else 'faults'}, {warnings} {'warning' if warnings == 1 else 'warnings'}"
    return f"{found} (settings of this shell and .env)."
