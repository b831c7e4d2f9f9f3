"""Shows the events of a task in a chat: progress in one message, then the results, or why there are none."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Protocol

from service import Event, Job, Reject, Retry, TaskView, Tools

from ._chat_progress import MessageGone, may_show, pause, was_shown
from ._chat_results import Result
from ._chat_words import end_text, is_open, progress_text

STORED_WITHIN = timedelta(minutes=3)
"""How long a completed task waits for its stored file, before the provider's is sent."""

PROGRESS = frozenset({"task.submitted", "task.progressed", "task.in_doubt"})
ENDS = frozenset({"task.failed", "task.canceled", "task.expired"})
SENT_FOR = 30 * 86_400.0
"""Seconds for which it is remembered that a result was sent."""

STORING = "Finished. Storing the video…"
UNSTORED = "unstored"
"""The job that sends the results of a task whose files were not stored in time."""


class TaskChat(Protocol):
    """Where the events of one task are shown. Each method raises Retry, Reject."""

    @property
    def key(self) -> str:
        """Return the key of the chat: all of its messages share one rate of edits."""

    @property
    def shown(self) -> str | None:
        """Return the key of the progress message, None without one."""

    async def edit(self, text: str, *, final: bool) -> None:
        """Replace the text of the progress message; raises MessageGone."""

    async def send(self, text: str) -> None:
        """Send a text."""

    async def send_result(self, result: Result, *, attempt: int) -> None:
        """Send one result, as a file or as a link."""

    async def remove(self) -> None:
        """Delete the progress message: the results are there."""


async def show_event(event: Event, chat: TaskChat, tools: Tools[Any, Any], *, own: bool, target: Any) -> None:
    """Show an event; `target` is kept for the job UNSTORED, `own` is whether the task is the bot's."""
    if event.type in PROGRESS:
        if is_open(event.task):  # past its deadline a task has progress too
            await _show_progress(progress_text(event.task), chat, tools)
    elif event.type in ENDS:
        await _show_end(end_text(event.task), chat, tools)
    elif event.type == "artifact.stored":
        await _send_stored(event, chat, tools)
    elif event.type == "task.completed" and _waits_for_file(tools):
        await _show_progress(STORING, chat, tools)
        data = {"client": None if own else event.client, "target": target}
        await tools.schedule(UNSTORED, f"{event.task.id}/{chat.key}", data, after=STORED_WITHIN)
    elif event.type == "task.completed":
        await send_results(event.task, range(len(event.task.output)), chat, tools, attempt=tools.attempt)


def _waits_for_file(tools: Tools[Any, Any]) -> bool:
    """Return whether a later event brings the stored file."""
    wanted = tools.options.events if tools.options else None
    return bool(tools.config.archive_url) and (wanted is None or "artifact.stored" in wanted)


async def _send_stored(event: Event, chat: TaskChat, tools: Tools[Any, Any]) -> None:
    """Send the result of a stored artifact; without ARCHIVE_URL it was sent when the task was completed."""
    if not tools.config.archive_url:
        return
    task, url = event.task, event.artifact.url if event.artifact else ""
    indexes = [index for index, item in enumerate(task.output) if item.get("url") == url]
    await send_results(task, indexes or range(len(task.output)), chat, tools, attempt=tools.attempt)
    keys = [Result(task=task, index=index, chat=chat.key).key for index in range(len(task.output))]
    if all([await tools.state.get(key) for key in keys]):
        await tools.unschedule(UNSTORED, f"{task.id}/{chat.key}")


async def send_unstored(job: Job, task: TaskView, chat: TaskChat, tools: Tools[Any, Any]) -> None:
    """Send the results of a task whose files were not stored in time."""
    await send_results(task, range(len(task.output)), chat, tools, attempt=job.attempt)


async def task_of(job: Job, tools: Tools[Any, Any]) -> TaskView:
    """Return the task of the job UNSTORED; raises Reject if there is none any more."""
    task = await tools.task(job.key.partition("/")[0], client=job.data["client"])
    if task is None:
        raise Reject("there is no such task any more")
    return task


async def send_results(
    task: TaskView, indexes: Iterable[int], chat: TaskChat, tools: Tools[Any, Any], *, attempt: int
) -> None:
    """Send results, once for each delivery: a replay sends them again. Then delete the progress message."""
    if not task.output:
        raise Reject("the task is completed, and no result came with it")
    for index in indexes:
        result = Result(task=task, index=index, chat=chat.key)
        seen = await tools.state.get(result.key) or {}
        if not (seen and seen["by"] in {tools.message_id, ""}):  # a job has no message id
            await chat.send_result(result, attempt=attempt)
        await tools.state.set(result.key, {"by": tools.message_id}, expires_in=SENT_FOR)
    if chat.shown is not None:
        try:
            await chat.remove()
        except Reject:
            tools.log.info("the progress message could not be deleted")


async def _show_progress(text: str, chat: TaskChat, tools: Tools[Any, Any]) -> None:
    """Edit the progress message not too often. A failed edit is not repeated: the next event shows more."""
    if chat.shown is None or not await may_show(tools.state, chat=chat.key, message=chat.shown, text=text):
        return
    try:
        await chat.edit(text, final=False)
    except Retry as error:
        if error.after:
            await pause(tools.state, chat=chat.key, after=error.after)
        tools.log.info("progress was not shown: %s", error)
    except Reject as error:  # the end of the task is what has to arrive
        tools.log.info("progress was not shown: %s", error)
    else:
        await was_shown(tools.state, message=chat.shown, text=text)


async def _show_end(text: str, chat: TaskChat, tools: Tools[Any, Any]) -> None:
    """Turn the progress message into the final text; send it if there is no such message."""
    if chat.shown is not None:
        if not await may_show(tools.state, chat=chat.key, message=chat.shown, text=text, final=True):
            return
        try:
            await chat.edit(text, final=True)
        except MessageGone:
            tools.log.info("the progress message is gone")
        else:
            await was_shown(tools.state, message=chat.shown, text=text)
            return
    await chat.send(text)
