"""The command `dead`: list dead letters."""

import click

from service.cli.api_client import Client, with_client
from service.cli.completion import handlers
from service.cli.next_page import print_next_page
from service.cli.output import format_time, print_json, show_table, text_of
from service.cli.tasks import as_json
from service.domain.task import Json

DEAD = ("id", "finished (UTC)", "handler", "event", "task", "error")
FAILING = ("id", "next try (UTC)", "handler", "event", "task", "error")
FAULTS = ("destination", "ours")
MAX_PAGES = 50
"""Maximum number of pages of pending deliveries that one call of `dead --failing` reads."""


@click.command()
@click.option("--handler", shell_complete=handlers, help="Only deliveries to this handler.")
@click.option("--fault", type=click.Choice(FAULTS), help="Only those for which this party is responsible.")
@click.option("--failing", is_flag=True, help="List failing deliveries that are still retried.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="Maximum number.")
@click.option("--cursor", help="Start after the previous page; its last line shows the cursor.")
@as_json
@with_client
async def dead(
    client: Client,
    *,
    handler: str | None,
    fault: str | None,
    failing: bool,
    limit: int,
    cursor: str | None,
    as_json: bool,
) -> None:
    """List dead letters: deliveries that failed for good.

    `boomerang replay` delivers them again.
    """
    if failing and fault:
        raise click.UsageError("--fault is for dead letters, not for --failing")
    if failing:
        page = await _failing(client, handler, limit, cursor)
    else:
        page = await client.deliveries(status="dead", handler=handler, fault=fault, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    rows = [_row(delivery) for delivery in page["data"]]
    empty = "No delivery fails." if failing else "No dead letters."
    show_table(FAILING if failing else DEAD, rows, empty=empty, below=2)
    print_next_page(page.get("next_cursor"))


async def _failing(client: Client, handler: str | None, limit: int, cursor: str | None) -> Json:
    """Return a page of the pending deliveries whose last attempt failed.

    It consists of whole pages of the API, so that it may exceed `limit`. It is shorter if MAX_PAGES hold fewer rows.
    """
    found: list[Json] = []
    for _ in range(MAX_PAGES):
        page = await client.deliveries(status="pending", handler=handler, limit=limit, cursor=cursor)
        found += [delivery for delivery in page["data"] if delivery.get("last_error")]
        cursor = page.get("next_cursor")
        if cursor is None or len(found) >= limit:
            break
    return {"data": found, "next_cursor": cursor}


def _row(delivery: Json) -> tuple[object, ...]:
    error = ": ".join(filter(None, (text_of(delivery.get("fault")), text_of(delivery.get("last_error")))))
    attempts = delivery.get("attempts")
    return (
        delivery["id"],
        format_time(delivery.get("finished_at") or delivery.get("due_at")),
        delivery["handler"],
        delivery["event_type"],
        text_of(delivery.get("task_id")),
        f"{error} ({attempts} attempt{'' if attempts == 1 else 's'})" if attempts else error,
    )
