"""The command `login`: a one-time link to the dashboard."""

import click

from service.cli.api_client import Client, with_client
from service.cli.output import clean, console, print_json


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
@with_client
async def login(client: Client, *, as_json: bool) -> None:
    """Print a link that signs a browser in to the dashboard, once and within ten minutes.

    The browser gets the role of the API key that this command uses; the key itself stays here.
    """
    link = await client.login_link()
    if as_json:
        print_json(link)
        return
    click.echo(clean(link["url"]))
    console().print("Opens the dashboard once, within ten minutes. Whoever has the link can use it.", soft_wrap=True)
