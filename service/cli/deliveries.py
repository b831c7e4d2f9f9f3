"""The commands about deliveries: dead letters, and putting them through again."""

import click

from service.cli import EXIT_FAILED, Failed
from service.cli.client import Client, with_client
from service.cli.console import console, print_json, results, show_table, text_of
from service.cli.tasks import as_json
from service.core.task import Json


@click.command()
@click.option("--handler", help="Only those of this handler.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True)
@click.option("--cursor", help="Go on where the last page ended.")
@as_json
@with_client
async def dead(client: Client, *, handler: str | None, limit: int, cursor: str | None, as_json: bool) -> None:
    """List dead letters: deliveries that were given up and are kept for a person."""
    page = await client.deliveries(status="dead", handler=handler, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    columns = ("id", "handler", "event", "why")
    show_table(columns, [_row(delivery) for delivery in page["data"]], empty="No dead letters.")
    if page.get("next_cursor"):
        console().print(f"More: boomerang dead --cursor {text_of(page['next_cursor'])}", soft_wrap=True)


def _row(delivery: Json) -> tuple[object, ...]:
    why = ": ".join(filter(None, (text_of(delivery.get("fault")), text_of(delivery.get("last_error")))))
    return delivery["id"], delivery["handler"], delivery["event_type"], why


@click.command()
@click.argument("delivery_ids", metavar="ID...", nargs=-1, required=True)
@as_json
@with_client
async def replay(client: Client, *, delivery_ids: tuple[str, ...], as_json: bool) -> None:
    """Put deliveries through again, each with a fresh id and the whole schedule before it."""
    answers: dict[str, Json] = {}
    failures: dict[str, str] = {}
    for delivery_id in delivery_ids:
        try:
            answers[delivery_id] = await client.replay(delivery_id)
        except Failed as error:
            failures[delivery_id] = error.message
    _tell(answers, failures, as_json=as_json)


def _tell(answers: dict[str, Json], failures: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json({"replayed": list(answers), "failed": failures})
    for delivery_id in answers if not as_json else ():
        results().print(f"Replayed {text_of(delivery_id)}")
    for delivery_id, reason in failures.items():
        console().print(f"Not replayed: {text_of(delivery_id)}: {reason}", soft_wrap=True)
    if failures:
        raise click.exceptions.Exit(EXIT_FAILED)
