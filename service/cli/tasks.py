"""The commands about tasks: submit, status, watch, tasks, cancel. They speak to a running service."""

import json
from typing import Any

import click

from service.cli import EXIT_FAILED
from service.cli.api_client import Client, with_client
from service.cli.media_options import media_values, parse_pairs
from service.cli.output import (
    console,
    format_time,
    print_json,
    result_console,
    show_fields,
    show_table,
    status_text,
    text_of,
    truncate,
)
from service.cli.progress import follow
from service.domain.task import Json, Status

STATUSES = [status.value for status in Status]
MODEL = "viduq2_pro_reference"
FAILURES = frozenset({"failed", "canceled", "expired"})

TASK_COLUMNS = ("id", "status", "done", "created (UTC)", "prompt")
MAX_PROMPT_WIDTH = 60
"""Characters of a prompt in a list."""

OWN_OPTIONS = {"prompt": "--prompt", "images": "--image", "videos": "--video"}
"""Parameters that have an option of their own."""

MAX_KEY_LENGTH = 255


def valid_key(_: click.Context, __: click.Parameter, key: str | None) -> str | None:
    """Return an idempotency key that the service will take; raises click.BadParameter. None stays None."""
    if key is None or (key.strip() and len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
        return key
    raise click.BadParameter(
        f"must be 1 to {MAX_KEY_LENGTH} printable ASCII characters; without the option each submission gets a fresh key"
    )


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


@click.command()
@click.option("--prompt", required=True, help="What the video shows.")
@click.option("--image", multiple=True, metavar="FILE|URL", help="A reference image; up to 7.")
@click.option("--video", multiple=True, metavar="FILE|URL", help="A reference video; up to 2.")
@click.option("--param", multiple=True, metavar="NAME=VALUE", help="A parameter, like duration=8 or aspect_ratio=9:16.")
@click.option("--model", default=MODEL, show_default=True, help="Which model makes it.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE|JSON", help="Your own data; comes back in every event.")
@click.option("--notify", multiple=True, metavar="URL", help="Send this task's events there, as signed webhooks.")
@click.option(
    "--idempotency-key",
    callback=valid_key,
    help="The same key gives the same task, however often it is submitted. Default: a fresh one.",
)
@click.option("--wait", is_flag=True, help="Follow the task to its end.")
@as_json
@with_client
async def submit(client: Client, *, idempotency_key: str | None, wait: bool, as_json: bool, **options: Any) -> None:
    """Submit a task through a running service. Local files go up with it."""
    task = await client.submit(_request_body(**options), idempotency_key=idempotency_key)
    if not as_json:
        _print_submitted(text_of(task["id"]), wait=wait)
    if wait:
        task = await _follow(client, task["id"])
    _finish(task, as_json=as_json, brief=not wait)


def _print_submitted(task_id: str, *, wait: bool) -> None:
    """Tell the id: it is the result, unless the task is waited for."""
    (console() if wait else result_console()).print(f"Submitted {task_id}", soft_wrap=True)
    if not wait:
        console().print(f"Follow it with: boomerang watch {task_id}", soft_wrap=True)


def _request_body(
    *,
    prompt: str,
    image: tuple[str, ...],
    video: tuple[str, ...],
    param: tuple[str, ...],
    model: str,
    metadata: tuple[str, ...],
    notify: tuple[str, ...],
) -> Json:
    own: Json = {"prompt": prompt} | _media(image, video)
    more = parse_pairs("--param", param)
    for name in own.keys() & more.keys():
        option = OWN_OPTIONS[name]
        raise click.BadParameter(f"{name} is what {option} gives; leave one of the two out", param_hint="--param")
    params = own | more
    order: Json = {"model": model, "params": params}
    if metadata:
        order["metadata"] = _metadata(metadata)
    if notify:
        order["notify"] = [{"handler": "webhook", "url": url} for url in notify]
    return order


def _media(image: tuple[str, ...], video: tuple[str, ...]) -> Json:
    given = {"images": media_values("image", image), "videos": media_values("video", video)}
    return {name: found for name, found in given.items() if found}


def _metadata(values: tuple[str, ...]) -> Json:
    if len(values) == 1 and values[0].lstrip().startswith("{"):
        try:
            found = json.loads(values[0])
        except ValueError:
            raise click.BadParameter("must be NAME=VALUE or a JSON object", param_hint="--metadata") from None
        return dict(found)
    return parse_pairs("--metadata", values)


async def _follow(client: Client, task_id: str) -> Json:
    out = console()
    try:
        return await follow(lambda seconds: client.task(task_id, wait=seconds), out=out)
    except BaseException:
        out.print(f"The task goes on; look again with: boomerang watch {text_of(task_id)}", soft_wrap=True)
        raise


@click.command()
@click.argument("task_id", metavar="ID")
@as_json
@with_client
async def status(client: Client, *, task_id: str, as_json: bool) -> None:
    """Show a task. The exit code is 1 when it failed, was canceled or has expired."""
    _finish(await client.task(task_id), as_json=as_json)


@click.command()
@click.argument("task_id", metavar="ID")
@as_json
@with_client
async def watch(client: Client, *, task_id: str, as_json: bool) -> None:
    """Follow a task to its end."""
    await client.task(task_id)
    _finish(await _follow(client, task_id), as_json=as_json)


@click.command()
@click.argument("task_id", metavar="ID")
@as_json
@with_client
async def cancel(client: Client, *, task_id: str, as_json: bool) -> None:
    """Cancel a task: at once while it is ours, else when the upstream agrees."""
    task = await client.cancel(task_id)
    print_json(task) if as_json else _print_task(task)


@click.command()
@click.argument("task_id", metavar="ID")
@as_json
@with_client
async def resubmit(client: Client, *, task_id: str, as_json: bool) -> None:
    """Submit a task again that is in doubt, failed, canceled or expired: a new task, which may be billed as well."""
    task = await client.resubmit(task_id)
    if as_json:
        print_json(task)
    else:
        _print_submitted(text_of(task["id"]), wait=False)


@click.command()
@click.option("--status", "status_filter", type=click.Choice(STATUSES), help="Only tasks with this status.")
@click.option("--model", help="Only tasks of this model.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="How many.")
@click.option("--cursor", help="Go on where the last page ended.")
@as_json
@with_client
async def tasks(
    client: Client, *, status_filter: str | None, model: str | None, limit: int, cursor: str | None, as_json: bool
) -> None:
    """List tasks, newest first."""
    page = await client.tasks(status=status_filter, model=model, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    show_table(TASK_COLUMNS, [_row(task) for task in page["data"]], empty="No tasks.")
    if page.get("next_cursor"):
        console().print(f"More: boomerang tasks --cursor {text_of(page['next_cursor'])}", soft_wrap=True)


def _row(task: Json) -> tuple[object, ...]:
    done = "" if task.get("progress") is None else f"{task['progress']:.0%}"
    prompt = truncate(text_of(task.get("params", {}).get("prompt")), MAX_PROMPT_WIDTH)
    return task["id"], status_text(task["status"]), done, format_time(task["created_at"]), prompt


def _finish(task: Json, *, as_json: bool, brief: bool = False) -> None:
    """Show a task, and end with 1 when it failed."""
    if as_json:
        print_json(task)
    elif not brief:
        _print_task(task)
    elif task.get("warnings"):
        show_fields(_warnings(task), out=console())
    if task["status"] in FAILURES:
        raise click.exceptions.Exit(EXIT_FAILED)


def _print_task(task: Json) -> None:
    error, usage = task.get("error") or {}, task.get("usage") or {}
    show_fields(
        {
            "task": task["id"],
            "status": status_text(task["status"]),
            "model": task.get("model"),
            "prompt": task.get("params", {}).get("prompt"),
            "progress": None if task.get("progress") is None else f"{task['progress']:.0%}",
            "upstream id": task.get("upstream_id"),
            "settled by": task.get("settled_by"),
            "error": f"{error['message']} ({error['code']})" if error else None,
            "note": task.get("note"),
            **_next_steps(task),
            "cost": f"{usage['cost']} USD" if usage.get("cost") else None,
            "resubmission of": task.get("resubmission_of"),
            "created": task.get("created_at"),
            "submitted": task.get("submitted_at"),
            "settled": task.get("settled_at"),
            **_outputs(task),
            **_warnings(task),
        }
    )


def _next_steps(task: Json) -> dict[str, object]:
    """Return what a status means that leaves something to a person; nothing for the others."""
    again = "submit it again with `boomerang resubmit ID`; if the upstream has it after all, there are two bills"
    if task["status"] == "in_doubt":
        return {
            "means": "the reply to its submission was lost: the upstream may have the task, and bill it, or not",
            "waits": "for its callback, or for the upstream's list to name it, as long as BOOMERANG_IN_DOUBT_FOR "
            "says; without either BOOMERANG_ON_IN_DOUBT decides, or its deadline",
            "deadline": task.get("deadline_at"),
            "you can": again,
        }
    if task["status"] == "expired":
        return {"means": "no end came before its deadline; one that comes later still counts", "you can": again}
    return {"you can": again} if (task.get("error") or {}).get("code") == "submission_unknown" else {}


def _outputs(task: Json) -> dict[str, object]:
    lines = [item.get("archived_url") or item.get("url") for item in task.get("output") or []]
    return {f"result {number}": line for number, line in enumerate(lines, start=1)}


def _warnings(task: Json) -> dict[str, object]:
    return {f"warning {number}": text for number, text in enumerate(task.get("warnings") or [], start=1)}
