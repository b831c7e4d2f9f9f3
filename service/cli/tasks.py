"""The task commands: submit, status, watch, tasks, cancel, resubmit. They call the API of a running service."""

import json
from functools import partial
from typing import Any

import click

from service.cli import EXIT_FAILED
from service.cli.api_client import Client, with_client
from service.cli.completion import files, models, parameters, task_ids
from service.cli.media_options import media_values, parse_pairs
from service.cli.next_page import print_next_page
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
"""Maximum length of a prompt in a list, in characters."""

OWN_OPTIONS = {"prompt": "--prompt", "images": "--image", "videos": "--video"}
"""Parameters with a dedicated option."""

MAX_KEY_LENGTH = 255
"""Maximum length of an idempotency key, in characters."""


def valid_key(_: click.Context, __: click.Parameter, key: str | None) -> str | None:
    """Return `key` if it is a valid idempotency key or None. Raises click.BadParameter otherwise."""
    if key is None or (key.strip() and len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
        return key
    raise click.BadParameter(
        f"must be 1 to {MAX_KEY_LENGTH} printable ASCII characters; without the option each submission gets a fresh key"
    )


repeated = partial(click.option, multiple=True)
"""An option that may be given several times."""

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


@click.command()
@click.option("--prompt", required=True, help="Description of the video.")
@click.option(
    "--image", multiple=True, metavar="FILE|URL", shell_complete=files, help="Reference image; repeat for up to 7."
)
@click.option(
    "--video", multiple=True, metavar="FILE|URL", shell_complete=files, help="Reference video; repeat for up to 2."
)
@click.option(
    "--param",
    multiple=True,
    metavar="NAME=VALUE",
    shell_complete=parameters,
    help="Model parameter such as duration=8.",
)
@click.option("--model", default=MODEL, show_default=True, shell_complete=models, help="Model.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE|JSON", help="Custom data, returned in every event.")
@click.option("--notify", multiple=True, metavar="URL", help="Send the events of the task to URL as signed webhooks.")
@click.option(
    "--idempotency-key",
    callback=valid_key,
    help="Repeated submissions with the same key return the same task. Default: a new key.",
)
@click.option("--wait", is_flag=True, help="Follow the task until it finishes.")
@as_json
@with_client
async def submit(client: Client, *, idempotency_key: str | None, wait: bool, as_json: bool, **options: Any) -> None:
    """Submit a task to a running service. Local files are sent inline.

    With --wait the exit code is 1 if the task fails, is canceled or expires.
    """
    task = await client.submit(_request_body(**options), idempotency_key=idempotency_key)
    if not as_json:
        _print_submitted(text_of(task["id"]), wait=wait)
    if wait:
        task = await _follow(client, task["id"])
    _finish(task, as_json=as_json, brief=not wait)


def _print_submitted(task_id: str, *, wait: bool) -> None:
    """Print the task id. It is the result unless the command waits for the task."""
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
    media = {"images": media_values("image", image), "videos": media_values("video", video)}
    dedicated: Json = {"prompt": prompt} | {name: values for name, values in media.items() if values}
    params = parse_pairs("--param", param)
    for name in dedicated.keys() & params.keys():
        option = OWN_OPTIONS[name]
        raise click.BadParameter(f"{name} is what {option} gives; leave one of the two out", param_hint="--param")
    body: Json = {"model": model, "params": dedicated | params}
    if metadata:
        body["metadata"] = _metadata(metadata)
    if notify:
        body["notify"] = [{"handler": "webhook", "url": url} for url in notify]
    return body


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
        out.print(f"The task is still running. Follow it with: boomerang watch {text_of(task_id)}", soft_wrap=True)
        raise


@click.command()
@click.argument("task_id", metavar="ID", shell_complete=task_ids)
@as_json
@with_client
async def status(client: Client, *, task_id: str, as_json: bool) -> None:
    """Show a task. The exit code is 1 if it failed, was canceled or expired."""
    _finish(await client.task(task_id), as_json=as_json)


@click.command()
@click.argument("task_id", metavar="[ID]", shell_complete=task_ids, required=False)
@as_json
@with_client
async def watch(client: Client, *, task_id: str | None, as_json: bool) -> None:
    """Follow a task until it finishes, or without ID all tasks until Ctrl-C.

    All tasks are a live table on a terminal, else a line for each change; with --json each line is a task. The exit
    code is 1 if the task with ID failed, was canceled or expired.
    """
    if task_id is None:
        from service.cli.live_tasks import watch_all  # noqa: PLC0415 - only this form needs it
        from service.cli.task_feed import TaskFeed  # noqa: PLC0415 - the same

        await watch_all(TaskFeed(client=client), as_json=as_json)
        return
    await client.task(task_id)
    _finish(await _follow(client, task_id), as_json=as_json)


@click.command()
@click.argument("task_id", metavar="ID", shell_complete=task_ids)
@as_json
@with_client
async def cancel(client: Client, *, task_id: str, as_json: bool) -> None:
    """Cancel a task. A submitted task is canceled only if the provider accepts."""
    task = await client.cancel(task_id)
    print_json(task) if as_json else _print_task(task)


@click.command()
@click.argument("task_id", metavar="ID", shell_complete=task_ids)
@as_json
@with_client
async def resubmit(client: Client, *, task_id: str, as_json: bool) -> None:
    """Submit an in-doubt, failed, canceled or expired task again as a new task. It may be charged twice."""
    task = await client.resubmit(task_id)
    if as_json:
        print_json(task)
    else:
        _print_submitted(text_of(task["id"]), wait=False)


@click.command()
@click.option("--status", "status_filter", type=click.Choice(STATUSES), help="Only tasks with this status.")
@click.option("--model", shell_complete=models, help="Only tasks with this model.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="Maximum number.")
@click.option("--cursor", help="Start after the previous page; its last line shows the cursor.")
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
    show_table(TASK_COLUMNS, [_row(task) for task in page["data"]], empty="No tasks.", cut=True)
    print_next_page(page.get("next_cursor"))


def _row(task: Json) -> tuple[object, ...]:
    progress = "" if task.get("progress") is None else f"{task['progress']:.0%}"
    prompt = truncate(text_of(task.get("params", {}).get("prompt")), MAX_PROMPT_WIDTH)
    return task["id"], status_text(task["status"]), progress, format_time(task["created_at"]), prompt


def _finish(task: Json, *, as_json: bool, brief: bool = False) -> None:
    """Print a task; exit with 1 if it failed, was canceled or expired. `brief` prints only its warnings."""
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
            "provider id": task.get("upstream_id"),
            "settled by": task.get("settled_by"),
            "error": _error_text(error) if error else None,
            "note": task.get("note"),
            **_next_steps(task),
            "cost": f"{usage['cost']} USD" if usage.get("cost") else None,
            "resubmission of": task.get("resubmission_of"),
            "created": task.get("created_at"),
            "submitted": None if task["status"] == "queued" else task.get("submitted_at"),  # was not sent then
            "settled": task.get("settled_at"),
            **_outputs(task),
            **_warnings(task),
        }
    )


def _error_text(error: Json) -> str:
    """Return the message, the kind and the provider's code; a service of an earlier release sends no kind."""
    return f"{error['message']} ({', '.join(text_of(error[name]) for name in ('kind', 'code') if name in error)})"


def _next_steps(task: Json) -> dict[str, object]:
    """Return explanations for a status that an operator can act on, and nothing for the others."""
    resubmit = "submit it again with `boomerang resubmit ID`; if the provider has the task, it charges twice"
    if task["status"] == "in_doubt":
        return {
            "meaning": "the reply to its submission was lost: the provider may have the task and charge for it",
            "waits for": "its callback or an entry in the provider's task list, for BOOMERANG_IN_DOUBT_FOR at most; "
            "after that BOOMERANG_ON_IN_DOUBT or the deadline applies",
            "deadline": task.get("deadline_at"),
            "you can": resubmit,
        }
    if task["status"] == "expired":
        return {"meaning": "no result arrived before its deadline; a later result still counts", "you can": resubmit}
    return {"you can": resubmit} if (task.get("error") or {}).get("code") == "submission_unknown" else {}


def _outputs(task: Json) -> dict[str, object]:
    urls = [item.get("archived_url") or item.get("url") for item in task.get("output") or []]
    return {f"result {number}": url for number, url in enumerate(urls, start=1)}


def _warnings(task: Json) -> dict[str, object]:
    return {f"warning {number}": text for number, text in enumerate(task.get("warnings") or [], start=1)}
