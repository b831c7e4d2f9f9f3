"""What the demo tells while it happens, and what it checks before it says that all went well."""

import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import anyio
from rich.console import Console
from rich.text import Text

from service.cli import CommandFailed, UsageError
from service.cli.demo.environment import HANDLERS, DemoEnvironment, staged
from service.cli.demo.sample_media import draw_images, play
from service.cli.media_options import media
from service.cli.output import clean, console
from service.cli.progress import follow
from service.domain.task import Json

MODEL = "viduq2_pro_reference"
PARAMS: Mapping[str, object] = {"duration": 4, "aspect_ratio": "16:9", "resolution": "540p"}
TASK_SECONDS = 60
HANDLER_SECONDS = 30
NAME_WIDTH = 14


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the demo was asked for; `directory` is absolute."""

    prompt: str
    images: tuple[Path, ...]
    video: Path | None
    lose_callbacks: bool
    stay: bool
    directory: Path


class DemoOutput:
    """Tells one step a line, with its mark; plain where there is no terminal."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self._marks = ("✓", "✗") if (out.encoding or "").lower().startswith("utf") else ("ok", "!!")

    def say(self, text: str = "") -> None:
        """Tell a line of prose."""
        self.out.print(Text(text), soft_wrap=True)

    def step(self, name: str, text: str) -> None:
        """Tell a step that is done."""
        self._line(self._marks[0], "green", name, text)

    def fail(self, name: str, text: str) -> None:
        """Tell what did not hold."""
        first, *more = text.splitlines() or [""]
        self._line(self._marks[1], "red", name, first)
        for line in more:
            self.say(f"  {clean(line)}")

    def _line(self, mark: str, style: str, name: str, text: str) -> None:
        line = Text("  ") + Text(mark, style=style) + Text(f" {name.ljust(NAME_WIDTH)} ", style="bold")
        self.out.print(line + Text(clean(text)), soft_wrap=True)


async def run_demo(plan: Plan) -> bool:
    """Run the demo; return whether everything held."""
    story = DemoOutput(console())
    story.say("Boomerang: one task from a prompt to a kept video, on this machine only.")
    story.say()
    started = time.monotonic()
    async with staged(plan.directory, lose_callbacks=plan.lose_callbacks) as stage:
        story.step("upstream", f"a stand-in at {stage.upstream_url}")
        story.step("service", f"{stage.client.url}, SQLite in {shown(stage.directory)}")
        try:
            with anyio.fail_after(TASK_SECONDS + HANDLER_SECONDS):
                film = await _play_through(story, stage, plan)
        except (CommandFailed, TimeoutError) as error:
            story.fail("stopped", getattr(error, "message", "") or "it took too long")
            if not isinstance(error, UsageError):
                story.say(f"\nThe log is in {shown(plan.directory / 'boomerang.log')}")
            return False
        story.say(f"\nDone in {time.monotonic() - started:.0f} s. The video: {shown(film)}")
        if plan.stay:
            await _stay(story, stage)
    return True


async def _play_through(story: DemoOutput, stage: DemoEnvironment, plan: Plan) -> Path:
    """Take one task through the loop; return where its video is kept. Raises Failed with what did not hold."""
    task = await stage.client.submit(await _order(story, plan))
    story.step("submitted", f"{task['id']} is safely written down")
    task = await follow(lambda seconds: stage.client.task(task["id"], wait=seconds), out=story.out)
    if task["status"] != "completed":
        raise CommandFailed(
            f"the task is {task['status']}: {(task.get('error') or {}).get('message', 'no reason given')}"
        )
    await _tell_how_it_settled(story, stage, task, lose_callbacks=plan.lose_callbacks)
    await _tell_handlers(story, stage, task["id"])
    return await _tell_film(story, await stage.client.task(task["id"]))


async def _order(story: DemoOutput, plan: Plan) -> Json:
    if plan.images:
        images, told = list(plan.images), "yours"
    else:
        images, told = await anyio.to_thread.run_sync(draw_images, plan.directory), "drawn just now"
    story.step("images", f"{', '.join(path.name for path in images)}, {told}")
    params: Json = {"prompt": plan.prompt, **PARAMS, "images": media("image", [str(path) for path in images])}
    if plan.video:
        params["videos"] = media("video", [str(plan.video)])
        story.step("video", plan.video.name)
    return {"model": MODEL, "params": params, "metadata": {"from": "boomerang demo"}}


async def _tell_how_it_settled(story: DemoOutput, stage: DemoEnvironment, task: Json, *, lose_callbacks: bool) -> None:
    history = await stage.client.history(task["id"])
    callbacks = sum(row["kind"] == "callback" and row.get("verdict") == "accepted" for row in history)
    polls = sum(row["kind"] == "poll" for row in history)
    if lose_callbacks:
        story.step("no callback", f"none ever came; the poller asked {_times(polls)}")
    elif callbacks:
        story.step("callback", f"came {_times(callbacks)}; tokens verified, outcome confirmed")
    expected = "poll" if lose_callbacks else "callback"
    if task["settled_by"] != expected or bool(callbacks) == lose_callbacks:
        raise CommandFailed(
            f"the task was settled by {task['settled_by']}, not by {expected}; {callbacks} callbacks came"
        )
    cost = (task.get("usage") or {}).get("cost")
    story.step(
        "settled", f"{task['status']}, by {task['settled_by']}" + (f", for {cost} USD (pretended)" if cost else "")
    )


async def _tell_handlers(story: DemoOutput, stage: DemoEnvironment, task_id: str) -> None:
    for event in ("task.completed", "artifact.stored"):
        try:
            await stage.receiver.hear(event, seconds=HANDLER_SECONDS)
        except TimeoutError:
            raise CommandFailed(f"the webhook for {event} did not come; {await _dead(stage)}") from None
    if stage.receiver.refused:
        raise CommandFailed(f"{stage.receiver.refused} webhooks were not signed as they should be")
    runs = await _runs(stage, task_id)
    for handler in HANDLERS:
        if not runs.get(handler):
            raise CommandFailed(f"the handler {handler} delivered nothing; {await _dead(stage)}")
    story.step("log", f"handled {_times(runs['log'], 'event')}")
    story.step("webhook", f"received {_times(len(stage.receiver.events), 'event')}, every signature verified")


async def _runs(stage: DemoEnvironment, task_id: str) -> dict[str, int]:
    """Return how many deliveries each handler has finished, once none is pending or time is up."""
    for _ in range(HANDLER_SECONDS * 10):
        rows = [row for row in await stage.client.history(task_id) if row["kind"] == "delivery"]
        if all(row["status"] != "pending" for row in rows):
            break
        await anyio.sleep(0.1)
    done = [row["handler"] for row in rows if row["status"] == "delivered"]
    return {handler: done.count(handler) for handler in done}


async def _dead(stage: DemoEnvironment) -> str:
    found = (await stage.client.deliveries(status="dead"))["data"]
    told = "; ".join(f"{each['handler']}: {each['last_error']}" for each in found)
    return told or "no delivery has failed for good"


async def _tell_film(story: DemoOutput, task: Json) -> Path:
    address = next((item["archived_url"] for item in task["output"] if item.get("archived_url")), None)
    if address is None:
        raise CommandFailed("the task names no archived video")
    path = Path(url2pathname(urlsplit(address).path))
    try:
        film = await anyio.to_thread.run_sync(play, path)
    except ValueError as error:
        raise CommandFailed(str(error)) from error
    story.step("archive", f"{path.name}, {film.bytes / 1000:,.0f} kB")
    story.step("plays", f"{film.width}x{film.height}, {film.seconds:.1f} s, all {film.frames} frames decoded")
    return path


async def _stay(story: DemoOutput, stage: DemoEnvironment) -> None:
    story.say(f"\nStill running; Ctrl-C ends it. API: {stage.client.url}/v1/tasks")
    story.say(f"Try: boomerang submit --wait --url {stage.client.url} --prompt 'A walk' --image FILE")
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            break


def _times(count: int, thing: str = "time") -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")


def shown(path: Path) -> str:
    """Return a path as short as it can be: relative to the working directory where it lies inside."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
