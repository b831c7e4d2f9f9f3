"""The commands about deliveries: dead letters, and putting them through again."""

import click

from service.cli import EXIT_FAILED, CommandFailed
from service.cli.api_client import Client, with_client
from service.cli.output import console, format_time, print_json, result_console, show_table, text_of
from service.cli.tasks import as_json
from service.domain.task import Json

DEAD = ("id", "given up (UTC)", "handler", "event", "task", "why")
FAILING = ("id", "next try (UTC)", "handler", "event", "task", "why")
MAX_PAGES = 50
"""How many pages of pending deliveries are looked through for those that fail."""


@click.command()
@click.option("--handler", help="Only those of this handler.")
@click.option("--failing", is_flag=True, help="List those that fail and are still tried again, instead.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many.")
@click.option("--cursor", help="Go on where the last page ended.")
@as_json
@with_client
async def dead(
    client: Client, *, handler: str | None, failing: bool, limit: int, cursor: str | None, as_json: bool
) -> None:
    """List dead letters: deliveries that were given up and are kept for a person. `boomerang replay` revives them."""
    if failing:
        page = await _failing(client, handler, limit, cursor)
    else:
        page = await client.deliveries(status="dead", handler=handler, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    rows = [_row(delivery) for delivery in page["data"]]
    empty = "No delivery fails." if failing else "No dead letters."
    show_table(FAILING if failing else DEAD, rows, empty=empty, below=2)
    if page.get("next_cursor"):
        flag = " --failing" if failing else ""
        console().print(f"More: boomerang dead{flag} --cursor {text_of(page['next_cursor'])}", soft_wrap=True)


async def _failing(client: Client, handler: str | None, limit: int, cursor: str | None) -> Json:
    """Return a page of the pending deliveries whose last attempt failed: some `limit` of them, fewer among many."""
    found: list[Json] = []
    for _ in range(MAX_PAGES):
        page = await client.deliveries(status="pending", handler=handler, limit=limit, cursor=cursor)
        found += [delivery for delivery in page["data"] if delivery.get("last_error")]
        cursor = page.get("next_cursor")
        if cursor is None or len(found) >= limit:
            break
    return {"data": found, "next_cursor": cursor}


def _row(delivery: Json) -> tuple[object, ...]:
    why = ": ".join(filter(None, (text_of(delivery.get("fault")), text_of(delivery.get("last_error")))))
    tries = delivery.get("attempts")
    return (
        delivery["id"],
        format_time(delivery.get("finished_at") or delivery.get("due_at")),
        delivery["handler"],
        delivery["event_type"],
        text_of(delivery.get("task_id")),
        f"{why} ({tries} attempt{'' if tries == 1 else 's'})" if tries else why,
    )


@click.command()
@click.argument("delivery_ids", metavar="ID...", nargs=-1, required=True)
@as_json
@with_client
async def replay(client: Client, *, delivery_ids: tuple[str, ...], as_json: bool) -> None:
    """Put deliveries through again, by the ids that `boomerang dead` shows.

    Each begins anew, with all of its attempts, and under a message id of its own, so that no receiver takes it for a
    repetition.
    """
    answers: dict[str, Json] = {}
    failures: dict[str, str] = {}
    for delivery_id in delivery_ids:
        try:
            answers[delivery_id] = await client.replay(delivery_id)
        except CommandFailed as error:
            failures[delivery_id] = error.message
    _tell(answers, failures, as_json=as_json)


def _tell(answers: dict[str, Json], failures: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json({"replayed": list(answers), "failed": failures})
    for delivery_id in answers if not as_json else ():
        result_console().print(f"Replayed {text_of(delivery_id)}")
    for delivery_id, reason in failures.items():
        console().print(f"Not replayed: {text_of(delivery_id)}: {reason}", soft_wrap=True)
    if failures:
        raise click.exceptions.Exit(EXIT_FAILED)
