"""The command `endpoints`: the standing webhook addresses of the caller."""

import re
from collections.abc import Mapping, Sequence

import click

from service.cli import EXIT_FAILED
from service.cli.api_client import Client, all_rows, with_client
from service.cli.output import console, format_time, print_json, result_console, show_fields, show_table, text_of
from service.cli.replays import Moment
from service.cli.tasks import as_json
from service.domain.task import Json

COLUMNS = ("id", "state", "events", "url", "health")
COUNTS = ("matched", "without_delivery", "dead", "created", "replayed")
OVERLAP = re.compile(r"([0-9]{1,6})([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Duration(click.ParamType[int]):
    """A duration such as 0s, 30m, 24h or 7d, in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of seconds."""
        found = OVERLAP.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is not a duration such as 0s, 30m, 24h or 7d", param, ctx)
        return int(found[1]) * SECONDS[found[2]]


@click.group(invoke_without_command=True)
@click.option("--client", "of_client", metavar="NAME", help="Only those of this client (an admin's key).")
@click.option("--url", help="Service address. Default: BOOMERANG_URL or http://127.0.0.1:8080.")
@click.option("--api-key", help="API key. Default: BOOMERANG_API_KEY, from where BOOMERANG_URL is set.")
@as_json
@click.pass_context
def endpoints(ctx: click.Context, /, **options: object) -> None:
    """List standing webhook addresses, or add, change and test one.

    An endpoint gets the events of all tasks of its client, signed with a secret of its own.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_endpoints, **options)
    elif any(options.values()):
        raise click.UsageError("give the options behind the name of the action")


@endpoints.command("list")
@click.option("--client", "of_client", metavar="NAME", help="Only those of this client (an admin's key).")
@as_json
@with_client
async def list_endpoints(client: Client, *, of_client: str | None, as_json: bool) -> None:
    """List endpoints with their health, newest first."""
    found = await all_rows(client.endpoints, client=of_client, limit=200)
    if as_json:
        print_json({"data": found})
        return
    show_table(COLUMNS, [_row(each) for each in found], empty="No endpoint.", below=2)


@endpoints.command()
@click.argument("address", metavar="URL")
@click.option("--events", metavar="NAME,...", help="Only these events, with commas between. Default: all.")
@click.option("--description", default="", help="What it is for.")
@click.option("--secret", metavar="WHSEC", help="A secret of your own. Default: a new one is made.")
@click.option(
    "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header that is sent with each event."
)
@click.option(
    "--rate", metavar="N/s", help="How many attempts start in a time: 30/s, 600/m, 36000/h. Default: no limit."
)
@as_json
@with_client
async def add(
    client: Client,
    *,
    address: str,
    events: str | None,
    description: str,
    secret: str | None,
    headers: Sequence[str],
    rate: str | None,
    as_json: bool,
) -> None:
    """Add an endpoint and print its secret, which is never shown again."""
    body: Json = {"url": address}
    if events is not None:
        body["events"] = _names(events)
    optional = {"description": description, "secret": secret, "headers": _headers(headers), "rate": rate}
    made = await client.add_endpoint(body | {name: value for name, value in optional.items() if value})
    _show_secret(made, as_json=as_json)


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@click.option("--to", "address", metavar="URL", help="Another address; the secret stays.")
@click.option("--events", metavar="NAME,...|all", help="Only these events, with commas between, or all.")
@click.option("--description", help="What it is for.")
@click.option("--rate", metavar="N/s|none", help="How many attempts start in a time, or none for no limit.")
@as_json
@with_client
async def change(
    client: Client,
    *,
    endpoint_id: str,
    address: str | None,
    events: str | None,
    description: str | None,
    rate: str | None,
    as_json: bool,
) -> None:
    """Change address, events, description or rate of an endpoint; what is not given stays."""
    changes: Json = {"url": address, "description": description, "rate": rate}
    changes = {name: value for name, value in changes.items() if value is not None}
    if rate == "none":
        changes["rate"] = None
    if events is not None:
        changes["events"] = None if events == "all" else _names(events)
    if not changes:
        raise click.UsageError("nothing to change: give --to, --events, --description or --rate")
    _show(await client.change_endpoint(endpoint_id, changes), as_json=as_json)


def _names(events: str) -> list[str]:
    return [name.strip() for name in events.split(",") if name.strip()]


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@click.option("--overlap", type=Duration(), help="How long the old secret signs too: 0s to 7d. Default: 24h.")
@click.option("--secret", metavar="WHSEC", help="A secret of your own. Default: a new one is made.")
@as_json
@with_client
async def rotate(client: Client, *, endpoint_id: str, overlap: int | None, secret: str | None, as_json: bool) -> None:
    """Replace the secret and print the new one, which is never shown again. Both sign for a while."""
    given = {"overlap_seconds": overlap, "secret": secret}
    body = {name: value for name, value in given.items() if value is not None}
    _show_secret(await client.endpoint_action(endpoint_id, "rotate", body), as_json=as_json)


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@as_json
@with_client
async def pause(client: Client, *, endpoint_id: str, as_json: bool) -> None:
    """Pause an endpoint: its deliveries wait, and lose no attempt."""
    _show(await client.change_endpoint(endpoint_id, {"paused": True}), as_json=as_json)


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@as_json
@with_client
async def resume(client: Client, *, endpoint_id: str, as_json: bool) -> None:
    """Resume a paused endpoint, and enable a disabled one."""
    _show(await client.change_endpoint(endpoint_id, {"paused": False, "disabled": False}), as_json=as_json)


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@as_json
@with_client
async def remove(client: Client, *, endpoint_id: str, as_json: bool) -> None:
    """Delete an endpoint; what waits for it is dropped."""
    await client.remove_endpoint(endpoint_id)
    if as_json:
        print_json({"id": endpoint_id, "removed": True})
    else:
        console().print(f"Removed {text_of(endpoint_id)}")


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@as_json
@with_client
async def test(client: Client, *, endpoint_id: str, as_json: bool) -> None:
    """Send a test event now and print what became of it. The exit code is 1 if it was not delivered."""
    result = await client.endpoint_action(endpoint_id, "test")
    if as_json:
        print_json(result)
    else:
        names = ("delivered", "status", "answer", "error", "seconds", "message_id")
        show_fields({name: text_of(result.get(name)) for name in names})
    if result.get("delivered") is not True:
        raise click.exceptions.Exit(EXIT_FAILED)


@endpoints.command()
@click.argument("endpoint_id", metavar="ID")
@click.option("--since", type=Moment(), required=True, help="Events since this time: RFC 3339, or 2h for 2 hours ago.")
@click.option("--until", type=Moment(), help="Events before this time.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@as_json
@with_client
async def replay(
    client: Client, *, endpoint_id: str, since: str, until: str | None, dry_run: bool, as_json: bool
) -> None:
    """Deliver what an endpoint has missed since a time: dead letters, and events without a delivery."""
    wanted = {"since": since, "dry_run": dry_run} | ({"until": until} if until else {})
    report = await _all_calls(client, endpoint_id, wanted)
    if as_json:
        print_json(report)
        return
    found = f"{report['matched']:,} missed: {report['dead']:,} dead letters, {report['without_delivery']:,} never made."
    result_console().print(found, soft_wrap=True)
    if not dry_run and report["matched"]:
        due = format_time(report["last_due_at"], seconds=True)
        count = report["created"] + report["replayed"]
        result_console().print(f"Replayed {count:,}; the last one is due at {due} UTC.", soft_wrap=True)


async def _all_calls(client: Client, endpoint_id: str, wanted: Mapping[str, object]) -> Json:
    """Call until nothing is left, and return the sum of the reports."""
    found = await client.endpoint_action(endpoint_id, "replay", dict(wanted))
    while found.get("next_cursor"):
        more = await client.endpoint_action(endpoint_id, "replay", {**wanted, "cursor": found["next_cursor"]})
        more |= {name: found[name] + more[name] for name in COUNTS}
        more["last_due_at"] = more["last_due_at"] or found["last_due_at"]
        found = more | {"sample": found["sample"]}
    return found


def _headers(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise click.UsageError("--header needs the form 'NAME: VALUE'")
        found[name.strip()] = value.strip()
    return found


def _show_secret(endpoint: Json, *, as_json: bool) -> None:
    _show(endpoint, as_json=as_json)
    if not as_json:
        console().print("Keep the secret now: it is never shown again.")


def _show(endpoint: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(endpoint)
        return
    show_fields(
        {
            "id": endpoint["id"],
            "url": endpoint["url"],
            "state": _state(endpoint),
            "events": _events(endpoint),
            "description": endpoint.get("description"),
            "rate": endpoint.get("rate"),
            "headers": ", ".join(map(text_of, endpoint.get("headers") or ())),
            "secret": endpoint.get("secret"),
            "old secret signs until": endpoint.get("old_secrets_until"),
        }
    )


def _row(endpoint: Json) -> tuple[object, ...]:
    return endpoint["id"], _state(endpoint), _events(endpoint), endpoint["url"], _health(endpoint.get("health") or {})


def _state(endpoint: Json) -> str:
    if endpoint.get("disabled"):
        return f"disabled ({text_of(endpoint.get('disabled_reason'))})"
    return "paused" if endpoint.get("paused") else "active"


def _events(endpoint: Json) -> str:
    return ", ".join(map(text_of, endpoint.get("events") or ())) or "all"


def _health(health: Json) -> str:
    """Return one line: how many of the last attempts succeeded, and what the last failure was."""
    recent = health.get("recent") or {}
    failed, succeeded = recent.get("failed") or 0, recent.get("succeeded") or 0
    if not (failed or succeeded):
        return "no attempt yet"
    line = f"{succeeded} of {succeeded + failed} succeeded"
    if health.get("consecutive_failures"):
        since = format_time(health.get("failing_since"))
        line += f"; failing since {since}: {text_of(health.get('last_failure_error'))}"
    return line
