"""Makes videos for people in Slack: `/video` or a mention with pictures, and the video in the same channel.

`boomerang setup slack` prints the manifest of the app; handlers/README.md has the settings. Each request is verified,
stored and answered at once, and worked on by a job of any worker. A task's `notify` may name this handler with a
channel of the operator's lists, or with the `url` of an incoming webhook; BOOMERANG_SLACK_WEBHOOK_URL names one for
every task. It needs the extra `slack`; its library is imported when it is first used.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from service import Event, Handlers, Job, Reject

from ._chat_events import UNSTORED, TaskChat, send_unstored, show_event, task_of
from ._slack_api import EXTRA_MISSING, open_slack, slack_installed
from ._slack_commands import GOT_IT, handle, instant_answer, may_spend
from ._slack_incoming import Incoming, is_from_slack, read_command, read_event, read_json
from ._slack_results import UNSHARED, Channel, IncomingWebhook
from ._slack_settings import Settings, SlackTools, Target

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

NAME = "slack"
OWN_CLIENT = f"handler:{NAME}"
"""The client of the tasks that the bot submits."""

MAX_REQUEST = 256 * 1024
SEEN_FOR = timedelta(days=2)
"""How long the ids of requests are kept; Slack repeats an event for minutes, with delayed events for hours."""

JOB_ATTEMPTS = 8
SEND_TIMEOUT = 1800.0
"""Seconds for the upload of a large result, and what is done around it."""

SIBLING = 2.0
"""Seconds in which a second event for a message may bring its files."""

handlers = Handlers()


def _check(_: object) -> str | None:
    return None if slack_installed() else EXTRA_MISSING


# ── events of tasks ──────────────────────────────────────────────────────────


@handlers.on(
    name=NAME,
    timeout=SEND_TIMEOUT,
    concurrency=4,
    settings=Settings,
    options=Target,
    needs_any=("SLACK_TOKEN", "SLACK_WEBHOOK_URL"),
    always_with="SLACK_WEBHOOK_URL",
    by_request=True,
    for_clients=True,
    check=_check,
)
async def slack(event: Event, tools: SlackTools) -> None:
    """Show the progress of a task in its channel, then its results there, or why there are none."""
    target = tools.options
    own = event.client == OWN_CLIENT
    listed = tools.config.slack_channels | tools.config.slack_users
    if target and target.channel and not own and target.channel not in listed:
        raise Reject("the channel is not in BOOMERANG_SLACK_CHANNELS or BOOMERANG_SLACK_USERS")
    if target and target.message and not own:
        raise Reject("message is that of the bot's own tasks; leave it out")
    chat = await _chat(target, tools, client=None if own else event.client)
    await show_event(event, chat, tools, own=own, target=target and target.model_dump(mode="json"))


async def _chat(target: Target | None, tools: SlackTools, *, client: str | None) -> TaskChat:
    """Return where a target is: a channel, its own webhook, or the operator's. `client` is None for the bot itself."""
    if target is None:
        url = tools.config.slack_webhook_url
        if url is None:
            raise Reject("the event names no channel")
        return IncomingWebhook(url=url.get_secret_value(), http=tools.operator_http, tools=tools)
    if target.url is not None:
        return IncomingWebhook(url=target.url.get_secret_value(), http=tools.http, tools=tools, comment=target.comment)
    return Channel(target=target, api=await open_slack(tools), tools=tools, client=client)


@handlers.job(UNSTORED, name=NAME, attempts=JOB_ATTEMPTS, timeout=SEND_TIMEOUT)
async def unstored(job: Job, tools: SlackTools) -> None:
    """Send the results of a task whose files were not stored in time."""
    target = Target.model_validate(job.data["target"]) if job.data["target"] else None
    chat = await _chat(target, tools, client=job.data["client"])
    await send_unstored(job, await task_of(job, tools), chat, tools)


@handlers.job(UNSHARED, name=NAME, attempts=JOB_ATTEMPTS, timeout=180)
async def unshared(job: Job, tools: SlackTools) -> None:
    """Send a link if Slack has not shared a file that it accepted."""
    target = Target.model_validate(job.data["target"])
    channel = Channel(target=target, api=await open_slack(tools), tools=tools, client=job.data["client"])
    await channel.send_unshared(await task_of(job, tools), job.data["index"], job.data["file"])


# ── what Slack sends ─────────────────────────────────────────────────────────


@handlers.route("POST", "/command", name=NAME, max_body=MAX_REQUEST, answer_first=True)
async def command(request: "Request", tools: SlackTools) -> "Response":
    """Store a slash command durably and answer its person alone. Raises HTTPException(401)."""
    from starlette.responses import JSONResponse, Response  # noqa: PLC0415 - a process without a port needs none

    incoming = await _verified(request, tools, read_command)
    if incoming is None:
        return Response()
    if text := instant_answer(incoming, tools):
        return JSONResponse({"response_type": "ephemeral", "text": text})
    await _store(incoming, incoming.source, tools, after=0)
    return JSONResponse({"response_type": "ephemeral", "text": GOT_IT}) if incoming.action == "video" else Response()


@handlers.route("POST", "/events", name=NAME, max_body=MAX_REQUEST, answer_first=True)
async def events(request: "Request", tools: SlackTools) -> "Response":
    """Store a message to the bot durably and answer; a repeated one is answered only. Raises HTTPException(401)."""
    from starlette.responses import JSONResponse, Response  # noqa: PLC0415 - a process without a port needs none

    body = await _verified(request, tools, read_json)
    if body is None:
        return Response()
    if body.get("type") == "url_verification":
        return JSONResponse({"challenge": str(body.get("challenge", ""))})
    try:
        incoming = read_event(body) if body.get("type") == "event_callback" else None
    except (ValueError, TypeError, AttributeError):
        tools.log.warning("slack sent an event that cannot be read")
        return Response()
    if incoming is not None:
        number = request.headers.get("x-slack-retry-num")
        if number:
            tools.log.info("slack repeats an event: %s", number[:10])
        await _store_message(incoming, str(body.get("event_id") or incoming.source)[:100], tools)
    return Response()


async def _verified(request: "Request", tools: SlackTools, read: Callable[[bytes], Any]) -> Any:
    """Return what `read` finds in a signed body, None if it cannot be read. Raises HTTPException(401)."""
    from starlette.exceptions import HTTPException  # noqa: PLC0415 - a process without a port does not need it

    body = await request.body()
    if not await is_from_slack(request.headers, body, tools):
        raise HTTPException(401)
    try:
        return read(body)
    except (ValueError, RecursionError):
        tools.log.warning("slack sent a request that cannot be read")  # it would be repeated
        return None


async def _store_message(incoming: Incoming, event_id: str, tools: SlackTools) -> None:
    """Store a message with its files, which only one of the two events for it may have."""
    if not may_spend(incoming, tools) and not await tools.state.add(f"refused/{incoming.user}", expires_in=3600):
        return  # one answer an hour is enough
    if incoming.files:
        await tools.state.set(f"files/{incoming.source}", incoming.files, expires_in=SEEN_FOR)
    await _store(incoming, f"event/{event_id}", tools, after=SIBLING)


async def _store(incoming: Incoming, seen: str, tools: SlackTools, *, after: float) -> None:
    if await tools.state.get(f"seen/{seen}"):
        return
    await tools.schedule("command", incoming.source, incoming.model_dump(), after=after, within=after)
    await tools.state.add(f"seen/{seen}", expires_in=SEEN_FOR)  # afterwards: a repeat of what was not stored counts


@handlers.job("command", name=NAME, attempts=JOB_ATTEMPTS, timeout=300)
async def act(job: Job, tools: SlackTools) -> None:
    """Act on one command, once, although two processes may have received it at the same time."""
    if await tools.state.get(f"done/{job.key}"):
        return
    data: Mapping[str, Any] = job.data
    files = data["files"] or await tools.state.get(f"files/{job.key}", [])
    incoming = Incoming.model_validate({**data, "files": files})
    await handle(incoming, await open_slack(tools), tools, last=job.attempt >= JOB_ATTEMPTS)
    await tools.state.add(f"done/{job.key}", expires_in=SEEN_FOR)
