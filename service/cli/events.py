"""The command `boomerang events`: everything that happened to a task, one line each."""

import click

from service.cli.api_client import Client, with_client
from service.cli.output import moment, print_json, show_table, text_of
from service.cli.tasks import as_json
from service.domain.task import Json

COLUMNS = ("when (UTC)", "what", "event", "handler", "how")


@click.command()
@click.argument("task_id", metavar="ID")
@as_json
@with_client
async def events(client: Client, *, task_id: str, as_json: bool) -> None:
    """Show what happened to a task, oldest first: events, callbacks, polls, deliveries and their attempts."""
    found = await client.history(task_id)
    if as_json:
        print_json({"data": found})
        return
    types = {each.get("id"): each.get("type") for each in found if each.get("kind") == "event"}
    types |= {each.get("id"): types.get(each.get("event_id")) for each in found if each.get("kind") == "delivery"}
    rows = [_row(each, text_of(types.get(_owner(each)))) for each in found]
    show_table(COLUMNS, rows, empty="Nothing has happened yet.", below=0)


def _owner(each: Json) -> object:
    """Return the id whose event a row of the history belongs to."""
    return each.get("delivery_id") or each.get("id")


def _row(each: Json, event: str) -> tuple[object, ...]:
    attempt = f"attempt {each['attempt']}" if each.get("attempt") else None
    how = each.get("verdict") or each.get("outcome") or each.get("status")
    error = each.get("last_error") or each.get("error")
    return (
        moment(each.get("at"), seconds=True),
        attempt or text_of(each.get("kind")),
        event,
        text_of(each.get("handler")),
        ": ".join(text_of(part) for part in (how, error) if part),
    )
