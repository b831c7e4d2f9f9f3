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
from service.cli.demo.environment import HANDLERS, DemoEnvironment, demo_environment
from service.cli.demo.sample_media import decode_video, draw_images
from service.cli.media_options import media_values
from service.cli.output import clean, console
from service.cli.progress import follow
from service.domain.task import Json

MODEL = "viduq2_pro_reference"
PARAMS: Mapping[str, object] = {"duration": 4, "aspect_ratio": "16:9", "resolution": "540p"}
TASK_SECONDS = 60
HANDLER_SECONDS = 30
NAME_WIDTH = 14


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
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

    def print(self, text: str = "") -> None:
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
            self.print(f"  {clean(line)}")

    def _line(self, mark: str, style: str, name: str, text: str) -> None:
        line = Text("  ") + Text(mark, style=style) + Text(f" {name.ljust(NAME_WIDTH)} ", style="bold")
        self.out.print(line + Text(clean(text)), soft_wrap=True)


async def run_demo(options: DemoOptions) -> bool:
    """Run the demo; return whether everything held."""
    output = DemoOutput(console())
    output.print("Boomerang: one task from a prompt to a kept video, on this machine only.")
    output.print()
    started = time.monotonic()
    async with demo_environment(options.directory, lose_callbacks=options.lose_callbacks) as environment:
        output.step("upstream", f"a stand-in at {environment.upstream_url}")
        output.step("service", f"{environment.client.url}, SQLite in {display_path(environment.directory)}")
        try:
            with anyio.fail_after(TASK_SECONDS + HANDLER_SECONDS):
                video = await _run_task(output, environment, options)
        except (CommandFailed, TimeoutError) as error:
            output.fail("stopped", getattr(error, "message", "") or "it took too long")
            if not isinstance(error, UsageError):
                output.print(f"\nThe log is in {display_path(options.directory / 'boomerang.log')}")
            return False
        output.print(f"\nDone in {time.monotonic() - started:.0f} s. The video: {display_path(video)}")
        if options.stay:
            await _wait_for_signal(output, environment)
    return True


async def _run_task(output: DemoOutput, environment: DemoEnvironment, options: DemoOptions) -> Path:
    """Take one task through the loop; return where its video is kept. Raises Failed with what did not hold."""
    task = await environment.client.submit(await _request_body(output, options))
    output.step("submitted", f"{task['id']} is safely written down")
    task = await follow(lambda seconds: environment.client.task(task["id"], wait=seconds), out=output.out)
    if task["status"] != "completed":
        raise CommandFailed(
            f"the task is {task['status']}: {(task.get('error') or {}).get('message', 'no reason given')}"
        )
    await _report_settlement(output, environment, task, lose_callbacks=options.lose_callbacks)
    await _report_handlers(output, environment, task["id"])
    return await _report_video(output, await environment.client.task(task["id"]))


async def _request_body(output: DemoOutput, options: DemoOptions) -> Json:
    if options.images:
        images, told = list(options.images), "yours"
    else:
        images, told = await anyio.to_thread.run_sync(draw_images, options.directory), "drawn just now"
    output.step("images", f"{', '.join(path.name for path in images)}, {told}")
    params: Json = {"prompt": options.prompt, **PARAMS, "images": media_values("image", [str(path) for path in images])}
    if options.video:
        params["videos"] = media_values("video", [str(options.video)])
        output.step("video", options.video.name)
    return {"model": MODEL, "params": params, "metadata": {"from": "boomerang demo"}}


async def _report_settlement(
    output: DemoOutput, environment: DemoEnvironment, task: Json, *, lose_callbacks: bool
) -> None:
    history = await environment.client.history(task["id"])
    callbacks = sum(row["kind"] == "callback" and row.get("verdict") == "accepted" for row in history)
    polls = sum(row["kind"] == "poll" for row in history)
    if lose_callbacks:
        output.step("no callback", f"none ever came; the poller asked {_counted(polls)}")
    elif callbacks:
        output.step("callback", f"came {_counted(callbacks)}; tokens verified, outcome confirmed")
    expected = "poll" if lose_callbacks else "callback"
    if task["settled_by"] != expected or bool(callbacks) == lose_callbacks:
        raise CommandFailed(
            f"the task was settled by {task['settled_by']}, not by {expected}; {callbacks} callbacks came"
        )
    cost = (task.get("usage") or {}).get("cost")
    output.step(
        "settled", f"{task['status']}, by {task['settled_by']}" + (f", for {cost} USD (pretended)" if cost else "")
    )


async def _report_handlers(output: DemoOutput, environment: DemoEnvironment, task_id: str) -> None:
    for event in ("task.completed", "artifact.stored"):
        try:
            await environment.receiver.wait_for(event, seconds=HANDLER_SECONDS)
        except TimeoutError:
            raise CommandFailed(f"the webhook for {event} did not come; {await _dead_letters(environment)}") from None
    if environment.receiver.refused:
        raise CommandFailed(f"{environment.receiver.refused} webhooks were not signed as they should be")
    runs = await _delivered_counts(environment, task_id)
    for handler in HANDLERS:
        if not runs.get(handler):
            raise CommandFailed(f"the handler {handler} delivered nothing; {await _dead_letters(environment)}")
    output.step("log", f"handled {_counted(runs['log'], 'event')}")
    output.step("webhook", f"received {_counted(len(environment.receiver.events), 'event')}, every signature verified")


async def _delivered_counts(environment: DemoEnvironment, task_id: str) -> dict[str, int]:
    """Return how many deliveries each handler has finished, once none is pending or time is up."""
    for _ in range(HANDLER_SECONDS * 10):
        rows = [row for row in await environment.client.history(task_id) if row["kind"] == "delivery"]
        if all(row["status"] != "pending" for row in rows):
            break
        await anyio.sleep(0.1)
    done = [row["handler"] for row in rows if row["status"] == "delivered"]
    return {handler: done.count(handler) for handler in done}


async def _dead_letters(environment: DemoEnvironment) -> str:
    found = (await environment.client.deliveries(status="dead"))["data"]
    told = "; ".join(f"{each['handler']}: {each['last_error']}" for each in found)
    return told or "no delivery has failed for good"


async def _report_video(output: DemoOutput, task: Json) -> Path:
    address = next((item["archived_url"] for item in task["output"] if item.get("archived_url")), None)
    if address is None:
        raise CommandFailed("the task names no archived video")
    path = Path(url2pathname(urlsplit(address).path))
    try:
        video = await anyio.to_thread.run_sync(decode_video, path)
    except ValueError as error:
        raise CommandFailed(str(error)) from error
    output.step("archive", f"{path.name}, {video.bytes / 1000:,.0f} kB")
    output.step("plays", f"{video.width}x{video.height}, {video.seconds:.1f} s, all {video.frames} frames decoded")
    return path


async def _wait_for_signal(output: DemoOutput, environment: DemoEnvironment) -> None:
    output.print(f"\nStill running; Ctrl-C ends it. API: {environment.client.url}/v1/tasks")
    output.print(f"Try: boomerang submit --wait --url {environment.client.url} --prompt 'A walk' --image FILE")
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            break


def _counted(count: int, thing: str = "time") -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")


def display_path(path: Path) -> str:
    """Return a path as short as it can be: relative to the working directory where it lies inside."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
