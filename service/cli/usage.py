"""The command `usage`: what tasks cost, by day, model and client."""

import csv
import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import click

from service.cli.api_client import Client, with_client
from service.cli.output import clean, console, print_json, show_table, text_of
from service.cli.tasks import as_json
from service.domain.task import Json

FIELDS = ("day", "model", "client", "tasks", "cost", "unpriced", "without_result", "without_result_cost")
NUMBERS = ("tasks", "cost (USD)", "unpriced")
PAID_WITHOUT_RESULT = "paid without result"
COLUMNS = ("day", "model", "client", *NUMBERS, PAID_WITHOUT_RESULT)
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a cell that a spreadsheet would take for a formula."""


class Day(click.DateTime):
    """A day such as 2026-05-31."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the day as a datetime; raises click.BadParameter."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is no day; write it like 2026-05-31", param, ctx)


day = Day(["%Y-%m-%d"])


@click.command()
@click.option(
    "--from", "first", type=day, metavar="DAY", help="First day (UTC), like 2026-05-01. Default: 30 days ago."
)
@click.option("--to", "last", type=day, metavar="DAY", help="Last day. Default: today.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV on standard output.")
@as_json
@with_client
async def usage(client: Client, *, first: datetime | None, last: datetime | None, as_csv: bool, as_json: bool) -> None:
    """Show what tasks cost, by UTC day of their submission, model and client; an admin's key shows every client.

    A task that was paid and has no result stands out. Tasks without a known cost are counted as unpriced.
    """
    if as_csv and as_json:
        raise click.UsageError("give either --csv or --json")
    report = await _whole_report(client, first, last)
    if as_json:
        print_json(report)
    elif as_csv:
        _print_csv(report["data"])
    else:
        rows = [_row(each) for each in report["data"]]
        _show([*rows, _total(report["total"])] if rows else [])
        if report["total"]["without_result"]:
            console().print("Paid without result: see `boomerang tasks --status completed` and their warnings.")


def _show(rows: Sequence[Sequence[object]]) -> None:
    """Print the table without the columns in which no row has anything."""
    kept = [at for at in range(len(COLUMNS)) if not rows or any(row[at] != "" for row in rows)]
    columns, cells = [COLUMNS[at] for at in kept], [[row[at] for at in kept] for row in rows]
    has_lost = PAID_WITHOUT_RESULT in columns
    show_table(columns, cells, empty="No task was submitted.", below=int(has_lost), numbers=NUMBERS)


async def _whole_report(client: Client, first: datetime | None, last: datetime | None) -> Json:
    """Return the report of all days: the rows of all pages, and the sums over them."""
    days = {"from": first and first.date().isoformat(), "to": last and last.date().isoformat()}
    report = await client.usage(**days)
    while cursor := report["next_cursor"]:
        # the days of the first page stay those of the report, also past midnight
        more = await client.usage(**{"from": report["from"], "to": report["to"], "cursor": cursor})
        report["data"] += more["data"]
        report["total"] = _sum(report["total"], more["total"])
        report["next_cursor"] = more["next_cursor"] if more["next_cursor"] != cursor else None
    return report


def _sum(one: Json, other: Json) -> Json:
    return {
        name: str(Decimal(value) + Decimal(other[name])) if isinstance(value, str) else value + other[name]
        for name, value in one.items()
    }


def _print_csv(rows: Sequence[Json]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(FIELDS)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in FIELDS])


def _cell(value: object) -> str:
    """Return a value for a spreadsheet; a text that it would take for a formula begins with an apostrophe."""
    text = clean(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _row(row: Json) -> tuple[object, ...]:
    return row["day"], text_of(row["model"]), text_of(row["client"]), *_sums(row)


def _total(total: Json) -> tuple[object, ...]:
    return "total", "", "", *_sums(total)


def _sums(sums: Json) -> tuple[object, ...]:
    lost = f"{sums['without_result']} ({sums['without_result_cost']} USD)" if sums["without_result"] else ""
    return f"{sums['tasks']:,}", sums["cost"], sums["unpriced"] or "", lost
