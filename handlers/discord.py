"""Makes videos for people in Discord: `/video` with pictures, and the video as its answer.

`boomerang setup discord` registers the commands; handlers/README.md has the settings. Each interaction is verified,
stored and answered at once, and worked on by a job of any worker. A task's `notify` may name this handler with a
channel of the operator's lists, or with the `url` of a webhook; BOOMERANG_DISCORD_WEBHOOK_URL names one for every task.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from service import Event, Handlers, Job, Reject

from ._chat_events import UNSTORED, TaskChat, send_unstored, show_event, task_of
from ._discord_api import DiscordApi
from ._discord_commands import handle, keep_token, refusal
from ._discord_incoming import PING, is_from_discord, read_interaction
from ._discord_incoming import Incoming as Command
from ._discord_results import Channel, Webhook
from ._discord_settings import DiscordTools, Settings, Target

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

NAME = "discord"
OWN_CLIENT = f"handler:{NAME}"
"""The client of the tasks that the bot submits."""

MAX_REQUEST = 256 * 1024
SEEN_FOR = timedelta(days=2)
JOB_ATTEMPTS = 8
SEND_TIMEOUT = 600.0
"""Seconds for the upload of a result, and what is done around it."""

AFTER_ANSWER = 0.5
"""Seconds after which a command is worked on: Discord refuses changes of an answer that it has not read yet."""

PONG, MESSAGE, DEFERRED = 1, 4, 5
"""Types of answers to an interaction."""

ONLY_FOR_THEM = 64
"""The flag of a message that only the person of the command sees."""

handlers = Handlers()


# ── events of tasks ──────────────────────────────────────────────────────────


@handlers.on(
    name=NAME,
    timeout=SEND_TIMEOUT,
    concurrency=4,
    settings=Settings,
    options=Target,
    needs_any=("DISCORD_PUBLIC_KEY", "DISCORD_WEBHOOK_URL"),
    always_with="DISCORD_WEBHOOK_URL",
    by_request=True,
    for_clients=True,
)
async def discord(event: Event, tools: DiscordTools) -> None:
    """Show the progress of a task in its channel, then its results there, or why there are none."""
    target = tools.options
    own = event.client == OWN_CLIENT
    if target and target.channel and not own and target.channel not in tools.config.discord_channels:
        raise Reject("the channel is not in BOOMERANG_DISCORD_CHANNELS")
    if target and not own and (target.interaction or target.message):
        raise Reject("interaction and message are those of the bot's own tasks; leave them out")
    chat = _chat(event.task.id, target, tools)
    await show_event(event, chat, tools, own=own, target=target and target.model_dump(mode="json"))


def _chat(task_id: str, target: Target | None, tools: DiscordTools) -> TaskChat:
    """Return where a target is: a channel, its own webhook, or the operator's."""
    if target is None:
        url = tools.config.discord_webhook_url
        if url is None:
            raise Reject("the event names no channel")
        api = DiscordApi(http=tools.operator_http, tools=tools)
        return Webhook(url=url.get_secret_value(), task=task_id, api=api, tools=tools)
    if target.url is not None:
        api = DiscordApi(http=tools.http, tools=tools)
        return Webhook(url=target.url.get_secret_value(), task=task_id, api=api, tools=tools, comment=target.comment)
    return Channel(target=target, api=DiscordApi(http=tools.operator_http, tools=tools), tools=tools)


@handlers.job(UNSTORED, name=NAME, attempts=JOB_ATTEMPTS, timeout=SEND_TIMEOUT)
async def unstored(job: Job, tools: DiscordTools) -> None:
    """Send the results of a task whose files were not stored in time."""
    target = Target.model_validate(job.data["target"]) if job.data["target"] else None
    task = await task_of(job, tools)
    await send_unstored(job, task, _chat(task.id, target, tools), tools)


# ── what Discord sends ───────────────────────────────────────────────────────


@handlers.route("POST", "/interactions", name=NAME, max_body=MAX_REQUEST, answer_first=True)
async def interactions(request: "Request", tools: DiscordTools) -> "Response":
    """Store a command durably and answer that it is worked on. Raises HTTPException(401, 400)."""
    from starlette.exceptions import HTTPException  # noqa: PLC0415 - a process without a port does not need it
    from starlette.responses import JSONResponse  # noqa: PLC0415 - the same

    body = await request.body()
    key = tools.config.discord_public_key or ""
    if not is_from_discord(request.headers, body, key, tools.now()):
        raise HTTPException(401)  # Discord sends bad signatures too, and removes an address that accepts them
    try:
        found = json.loads(body)
        if found.get("type") == PING:
            return JSONResponse({"type": PONG})
        command = read_interaction(found)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        tools.log.warning("discord sent an interaction that cannot be read")
        raise HTTPException(400) from None
    if command is None:
        return JSONResponse(_message("This command is not known here any more."))
    return JSONResponse(await _answer(command, tools))


async def _answer(command: Command, tools: DiscordTools) -> Mapping[str, Any]:
    """Return the answer to a command, which is stored before if its person may spend."""
    if text := refusal(command, tools):
        return _message(text)
    await keep_token(command, tools)
    await tools.schedule("command", command.id, command.model_dump(mode="json", exclude={"token"}), after=AFTER_ANSWER)
    private = {} if command.action == "video" else {"data": {"flags": ONLY_FOR_THEM}}
    return {"type": DEFERRED, **private}


def _message(text: str) -> dict[str, Any]:
    """Return an answer that only the person sees."""
    data = {"content": text, "flags": ONLY_FOR_THEM, "allowed_mentions": {"parse": []}}
    return {"type": MESSAGE, "data": data}


@handlers.job("command", name=NAME, attempts=JOB_ATTEMPTS, timeout=180)
async def act(job: Job, tools: DiscordTools) -> None:
    """Act on one command, once, although it may have been received twice."""
    if await tools.state.get(f"done/{job.key}"):
        return
    command = Command.model_validate({**job.data, "token": ""})
    api = DiscordApi(http=tools.operator_http, tools=tools)
    await handle(command, api, tools, last=job.attempt >= JOB_ATTEMPTS)
    await tools.state.add(f"done/{job.key}", expires_in=SEEN_FOR)
