"""The command `boomerang events`: the history of a task, one line for each entry."""

import click

from service.cli.api_client import Client, with_client
from service.cli.completion import task_ids
from service.cli.output import format_time, print_json, show_table, text_of
from service.cli.tasks import as_json
from service.domain.task import Json

COLUMNS = ("time (UTC)", "kind", "event", "handler", "result")


@click.command()
@click.argument("task_id", metavar="ID", shell_complete=task_ids)
@as_json
@with_client
async def events(client: Client, *, task_id: str, as_json: bool) -> None:
    """Show the history of a task, oldest first: waits, events, callbacks, polls, deliveries and attempts."""
    found = await client.history(task_id)
    if as_json:
        print_json({"data": found})
        return
    types = {row.get("id"): row.get("type") for row in found if row.get("kind") == "event"}
    types |= {row.get("id"): types.get(row.get("event_id")) for row in found if row.get("kind") == "delivery"}
    rows = [_row(row, text_of(types.get(row.get("delivery_id") or row.get("id")))) for row in found]
    show_table(COLUMNS, rows, empty="No entries yet.", below=0, fold=True)


def _row(row: Json, event: str) -> tuple[object, ...]:
    attempt = f"attempt {row['attempt']}" if row.get("attempt") else None
    result = row.get("verdict") or row.get("outcome") or row.get("status") or _waited(row) or row.get("client")
    error = row.get("last_error") or row.get("error") or row.get("detail")
    if not error and row.get("kind") == "callback" and row.get("count"):
        error = f"{row['count']} times"
    return (
        format_time(row.get("at"), seconds=True),
        attempt or text_of(row.get("kind")),
        event,
        text_of(row.get("handler")),
        ": ".join(text_of(part) for part in (result, error) if part),
    )


def _waited(row: Json) -> str | None:
    """Return why and how often a task waited, and until when if the entry stands for more than a moment."""
    if row.get("kind") != "wait":
        return None
    times = f" {row['count']} times" if row.get("count", 1) > 1 else ""
    until = f" until {format_time(row.get('last_at'), seconds=True)}" if row.get("last_at") != row.get("at") else ""
    return f"{row.get('reason')}{times}{until}"
