"""The command `replay`: deliver again by id, or everything that a filter selects."""

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import click

from service.cli import EXIT_FAILED, CommandFailed
from service.cli.api_client import Client, with_client
from service.cli.completion import handlers
from service.cli.output import clean, console, format_time, print_json, result_console, text_of
from service.cli.tasks import as_json
from service.domain.task import Json

AGO = re.compile(r"([0-9]{1,6})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
COUNTS = ("matched", "replayed", "running", "changed", "secret_deleted")
LEFT_ALONE = {
    "running": "an attempt is running",
    "changed": "ended meanwhile",
    "secret_deleted": "can no longer be signed, their secret was deleted",
}


class Moment(click.ParamType[str]):
    """A time with its offset, or a duration before now such as 90m, 2h or 3d."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the time as RFC 3339."""
        text = str(value).strip()
        try:
            ago = AGO.fullmatch(text)
            pause = timedelta(**{UNITS[ago[2]]: int(ago[1])}) if ago else None
            at = datetime.fromisoformat(text) if pause is None else datetime.now(UTC) - pause
        except (ValueError, OverflowError):
            at = None
        if at is None or at.tzinfo is None:
            self.fail(
                f"{text!r} is not a time with its offset (2026-05-06T12:00:00Z) or a duration ago (2h)", param, ctx
            )
        return at.isoformat()


@click.command()
@click.argument("delivery_ids", metavar="[ID]...", nargs=-1)
@click.option("--handler", shell_complete=handlers, help="Deliveries to this handler.")
@click.option("--since", type=Moment(), help="Events since this time: RFC 3339, or 2h for two hours ago.")
@click.option("--until", type=Moment(), help="Events before this time.")
@click.option("--client", "of_client", metavar="NAME", help="Deliveries of this client (an admin's key).")
@click.option("--receiver", metavar="HOST", help="Deliveries to this host of a notify address.")
@click.option(
    "--status",
    type=click.Choice(["dead", "pending"]),
    multiple=True,
    help="Dead letters (default), or deliveries that wait for a retry; may be given twice.",
)
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--yes", is_flag=True, help="Do not confirm; without a terminal nothing has to be confirmed.")
@as_json
@with_client
async def replay(
    client: Client, *, delivery_ids: tuple[str, ...], dry_run: bool, yes: bool, as_json: bool, **options: object
) -> None:
    """Replay deliveries by the ids that `boomerang dead` shows, or all that the options select.

    A replayed delivery has all its attempts again. The message id of a dead letter is new, so that receivers do not
    discard it as a duplicate; one that waits for a retry is tried now. Of many, 50 a second are due, the oldest event
    first. The exit code is 1 if a delivery cannot be replayed.
    """
    given = {name.removeprefix("of_"): value for name, value in options.items() if value}
    if delivery_ids and (given or dry_run):
        raise click.UsageError("give either ids, or options that select deliveries")
    if delivery_ids:
        await _replay_ids(client, delivery_ids, as_json=as_json)
    elif given.keys() - {"status"}:
        await _replay_many(client, given, dry_run=dry_run, confirm=not yes, as_json=as_json)
    else:
        raise click.UsageError("give ids, or at least one of --handler, --since, --until, --client, --receiver")


async def _replay_ids(client: Client, delivery_ids: Sequence[str], *, as_json: bool) -> None:
    replayed: list[str] = []
    failures: dict[str, str] = {}
    for delivery_id in delivery_ids:
        try:
            await client.replay(delivery_id)
            replayed.append(delivery_id)
        except CommandFailed as error:
            failures[delivery_id] = error.message
    if as_json:
        print_json({"replayed": replayed, "failed": failures})
    for delivery_id in replayed if not as_json else ():
        result_console().print(f"Replayed {text_of(delivery_id)}")
    for delivery_id, reason in failures.items():
        console().print(f"Not replayed: {text_of(delivery_id)}: {reason}", soft_wrap=True)
    if failures:
        raise click.exceptions.Exit(EXIT_FAILED)


async def _replay_many(
    client: Client, given: Mapping[str, object], *, dry_run: bool, confirm: bool, as_json: bool
) -> None:
    counted = await _all_calls(client, {**given, "dry_run": True})
    console().print(_selection(counted), soft_wrap=True)
    if dry_run and counted["sample"]:
        console().print(f"First: {', '.join(map(clean, counted['sample']))}", soft_wrap=True)
    if dry_run or not counted["matched"]:
        if as_json:
            print_json(counted)
        return
    if confirm and is_interactive():
        click.confirm("Replay them?", abort=True, err=True)
    report = await _all_calls(client, given, total=counted["matched"])
    if as_json:
        print_json(report)
    _show_report(report, brief=as_json)
    if report["secret_deleted"]:
        raise click.exceptions.Exit(EXIT_FAILED)


def _show_report(report: Json, *, brief: bool) -> None:
    """Print how many were replayed, and what was left alone and why; a `brief` report only the latter."""
    if not brief:
        due = f"; the last one is due at {format_time(report['last_due_at'], seconds=True)} UTC"
        result_console().print(
            f"Replayed {report['replayed']:,}{due if report['last_due_at'] else ''}.", soft_wrap=True
        )
    for name, reason in LEFT_ALONE.items():
        if report[name]:
            console().print(f"Left alone: {report[name]:,} ({reason}).", soft_wrap=True)


async def _all_calls(client: Client, wanted: Mapping[str, object], *, total: int | None = None) -> Json:
    """Call until nothing is left, and return the sum of the reports; with a `total`, show how far it is."""
    found = await client.replay_many(dict(wanted))
    while found["next_cursor"]:
        if total is not None:
            console().print(f"Replayed {found['replayed']:,} of {total:,} ...")
        more = await client.replay_many({**wanted, "cursor": found["next_cursor"]})
        for name in ("by_status", "by_handler"):
            more[name] = dict(Counter(found[name]) + Counter(more[name]))
        more |= {name: found[name] + more[name] for name in COUNTS}
        more["last_due_at"] = more["last_due_at"] or found["last_due_at"]
        found = more | {"sample": found["sample"]}
    return found


def is_interactive() -> bool:
    """Return whether a person can confirm."""
    return sys.stdin.isatty()


def _selection(counted: Json) -> str:
    """Return a line that counts what is selected, by status and handler."""
    matched = counted["matched"]
    if not matched:
        return "No delivery is selected: dead letters are, and with --status pending what waits for a retry."
    parts = [
        ", ".join(f"{count:,} {clean(name)}" for name, count in counted[by].items())
        for by in ("by_status", "by_handler")
    ]
    return f"{matched:,} deliver{'y is' if matched == 1 else 'ies are'} selected: {'; '.join(parts)}."
