"""The command `circuits`: destinations for which deliveries wait, and closing one by hand."""

import click

from service.cli import completion
from service.cli.api_client import Client, all_rows, with_client
from service.cli.output import console, format_time, print_json, show_fields, show_table, text_of
from service.cli.tasks import as_json
from service.domain.task import Json

COLUMNS = ("key", "state", "destination", "next try (UTC)", "failures", "last error")


@click.group(invoke_without_command=True)
@click.option("--url", help="Service address. Default: BOOMERANG_URL or http://127.0.0.1:8080.")
@click.option("--api-key", help="API key. Default: BOOMERANG_API_KEY, from where BOOMERANG_URL is set.")
@as_json
@click.pass_context
def circuits(ctx: click.Context, /, **options: object) -> None:
    """List the destinations that fail or have asked to wait, or close the circuit of one (an admin's key).

    Deliveries to such a destination wait and lose no attempt; the first probe that it answers lets them go.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_circuits, **options)
    elif any(options.values()):
        raise click.UsageError("give the options behind the name of the action")


@circuits.command("list")
@as_json
@with_client
async def list_circuits(client: Client, *, as_json: bool) -> None:
    """List the destinations that fail or have asked to wait."""
    found = await all_rows(client.circuits, limit=200)
    if as_json:
        print_json({"data": found})
        return
    show_table(COLUMNS, [_row(each) for each in found], empty="No destination fails.", below=2)
    if found:
        console().print("`boomerang circuits close KEY` lets what waits go at once.")


@circuits.command()
@click.argument("key", shell_complete=completion.circuits)
@as_json
@with_client
async def close(client: Client, *, key: str, as_json: bool) -> None:
    """Close the circuit with this KEY: what waits for it is delivered at once. If it fails again, it opens again."""
    circuit = await client.close_circuit(key)
    if as_json:
        print_json(circuit)
        return
    show_fields({"destination": _destination(circuit), "state": circuit["state"]})


def _row(circuit: Json) -> tuple[object, ...]:
    return (
        circuit["key"],
        circuit["state"],
        _destination(circuit),
        format_time(circuit.get("retry_at"), seconds=True),
        circuit.get("failures"),
        text_of(circuit.get("last_error")),
    )


def _destination(circuit: Json) -> str:
    if circuit.get("host"):
        return f"{text_of(circuit['host'])} of {text_of(circuit.get('client'))}"
    return f"handler {text_of(circuit.get('handler'))}"
