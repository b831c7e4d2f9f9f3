"""What a bot does with the commands video, status and cancel, on every platform.

A platform reads its requests into an `Order`, and says with `Answers` how its person is answered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from service import Conflict, InvalidTask, NotFound, QueueIsFull, Reject, TaskView, Tools, UpstreamError

from ._chat_limits import Charge, charge, recent, refund, remember_recent
from ._chat_media import UnusablePicture
from ._chat_words import cap_text, fault_text, is_open, progress_text

EVENTS = ("submitted", "progressed", "in_doubt", "completed", "failed", "canceled", "expired")
RECENT = 5
DAYS = 7 * 86_400.0

BUSY = "Too many videos are waiting already. This one will be tried again for some minutes."
BUSY_END = "Too many videos are waiting already. Send the command again later."
NOT_DONE = "This did not work in several attempts. Send the command again; if it fails again, inform the operator."
NO_VIDEO = "You have no unfinished video here."


@dataclass(frozen=True, kw_only=True)
class Order:
    """A command of a person: `source` is unique for it, `user` and `chat` are whom it counts for."""

    source: str
    user: str
    chat: str
    prompt: str
    pictures: int = 0

    @property
    def owner(self) -> str:
        """Return the key of the person's own tasks in this chat."""
        return f"{self.chat}/{self.user}"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What the operator's settings say of new tasks: their model and parameters, and the caps of a day."""

    handler: str
    model: str
    text_model: str | None
    params: Mapping[str, Any]
    user_daily: int
    chat_daily: int
    archive: bool
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def events(self) -> list[str]:
        """Return the events of which a chat is informed."""
        return [f"task.{name}" for name in EVENTS] + (["artifact.stored"] if self.archive else [])


class Answers(Protocol):
    """How one command is answered on its platform. Each method raises Retry, or Reject where nobody can read it."""

    async def reply(self, text: str) -> None:
        """Answer with a text, to the person alone where the platform can."""

    async def begin(self, text: str) -> Any:
        """Send the progress message; return what identifies it, as JSON."""

    async def change(self, shown: Any, text: str) -> None:
        """Turn the progress message into `text`, or send it if that message is gone."""

    async def pictures(self) -> list[str]:
        """Return the pictures as data URIs, or public addresses; raises UnusablePicture."""

    def target(self, shown: Any) -> dict[str, Any]:
        """Return where events of the task go: the fields of its `notify` entry."""


async def make_video(order: Order, answers: Answers, tools: Tools[Any, Any], terms: Terms, *, last: bool) -> None:
    """Submit a task for a command, once, and show its progress in one message; safe to run twice.

    Faults are shown there too. `last` is whether this is the last attempt. Raises Retry while the service or the
    platform cannot take it.
    """
    state = tools.state
    if await state.get(f"task/{order.source}"):
        return
    caps = {f"user/{order.user}": terms.user_daily, f"chat/{order.chat}": terms.chat_daily}
    charged = await charge(state, tools.now(), order.source, caps)
    if not isinstance(charged, Charge):
        await answers.reply(cap_text(charged.partition("/")[0], caps[charged]))
        return
    shown = None
    try:
        shown = await _progress_message(order, answers, tools)
        task = await _submit(order, await answers.pictures(), answers.target(shown), tools, terms)
    except Exception as error:
        text = failure_text(error, last=last)
        if text and text != BUSY:
            await refund(state, charged)
        if text and shown is not None:
            await answers.change(shown, text)
        if isinstance(error, InvalidTask | UnusablePicture):
            return
        raise
    await state.set(f"task/{order.source}", task.id, expires_in=DAYS)
    await remember_recent(state, order.owner, task.id, kept=RECENT)


def failure_text(error: Exception, *, last: bool) -> str | None:
    """Return what a person reads when a command has failed, None while a later attempt may succeed."""
    if isinstance(error, InvalidTask):
        return fault_text(error)
    if isinstance(error, UnusablePicture):
        return str(error)
    if isinstance(error, QueueIsFull):
        return BUSY_END if last else BUSY
    return NOT_DONE if last or isinstance(error, Reject) else None


async def _progress_message(order: Order, answers: Answers, tools: Tools[Any, Any]) -> Any:
    """Return what identifies the progress message of a command, which is sent once."""
    key = f"progress/{order.source}"
    shown = await tools.state.get(key)
    if shown is None:
        photos = {0: "", 1: " with 1 picture"}.get(order.pictures, f" with {order.pictures} pictures")
        shown = await answers.begin(f"Got it{photos}. The video is in the queue.")
        await tools.state.set(key, shown, expires_in=DAYS)
    return shown


async def _submit(
    order: Order, pictures: Sequence[str], target: Mapping[str, Any], tools: Tools[Any, Any], terms: Terms
) -> TaskView:
    params: dict[str, Any] = {**terms.params, "prompt": order.prompt}
    if pictures:
        params["images"] = [*pictures]
    given = {name: value for name, value in target.items() if value is not None}
    return await tools.submit(
        model=terms.model if pictures else terms.text_model or terms.model,
        params=params,
        metadata={terms.handler: dict(terms.metadata)},
        notify=[{"handler": terms.handler, "events": terms.events(), **given}],
        idempotency_key=order.source,
    )


# ── status and cancel ────────────────────────────────────────────────────────


async def _own_tasks(owner: str, tools: Tools[Any, Any]) -> list[TaskView]:
    """Return the newest tasks of a person in a chat."""
    found = [await tools.task(str(each)) for each in await recent(tools.state, owner)]
    return [task for task in found if task]


async def show_status(owner: str, answers: Answers, tools: Tools[Any, Any], *, none: str) -> None:
    """List the newest videos of a person in this chat; `none` is the answer without one."""
    lines = [
        f"• {task.created_at:%H:%M} UTC: {progress_text(task) if is_open(task) else task.status.capitalize() + '.'}"
        for task in await _own_tasks(owner, tools)
    ]
    await answers.reply("\n".join(("Your newest videos:", *lines)) if lines else none)


async def cancel_newest(owner: str, answers: Answers, tools: Tools[Any, Any]) -> None:
    """Cancel the newest unfinished video of a person in this chat."""
    chosen = [task for task in await _own_tasks(owner, tools) if is_open(task)]
    if not chosen:
        await answers.reply(NO_VIDEO)
        return
    await answers.reply(await canceled(chosen[0], tools))


async def canceled(task: TaskView, tools: Tools[Any, Any]) -> str:
    """Cancel a task; return in plain words whether it is canceled."""
    try:
        await tools.cancel(task.id)
    except (Conflict, NotFound) as error:
        return f"It cannot be canceled: {error}."
    except UpstreamError:
        return "The provider does not answer. Try again in a minute."
    return "Canceled."
