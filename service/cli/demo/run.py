"""The steps of the demo: run one task, print each step, and check the results."""

import shlex
import shutil
import signal
import sys
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
from service.cli.demo.environment import HANDLERS, LOG, DemoEnvironment, demo_environment, own_directory
from service.cli.demo.sample_media import HILLS, decode_video, draw_images
from service.cli.media_options import media_values
from service.cli.output import clean, console, print_json, wrapped
from service.cli.progress import follow
from service.domain.task import Json

MODEL = "viduq2_pro_reference"
PARAMS: Mapping[str, object] = {"duration": 4, "aspect_ratio": "16:9", "resolution": "540p"}
TASK_SECONDS = 60
HANDLER_SECONDS = 30
NAME_WIDTH = 14


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Options of the command; `directory` is absolute."""

    prompt: str
    images: tuple[Path, ...]
    video: Path | None
    lose_callbacks: bool
    stay: bool
    as_json: bool
    directory: Path

    @property
    def own_directory(self) -> Path:
        """Return where the database, the log and the generated images are."""
        return own_directory(self.directory)


class DemoOutput:
    """Prints one line per step, with a mark for success or failure."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self.steps: list[Json] = []
        self._marks = ("✓", "✗") if (out.encoding or "").lower().startswith("utf") else ("ok", "!!")

    def print(self, text: str = "") -> None:
        """Print a line of text; on a terminal it is wrapped between words."""
        self.out.print(Text(wrapped(text, 0, self.out)), soft_wrap=True)

    def command(self, text: str, command: str) -> None:
        """Print a command below its introduction; it is never wrapped, so that it can be copied."""
        self.print(text)
        self.out.print(Text(f"  {clean(command)}"), soft_wrap=True)

    def step(self, name: str, text: str) -> None:
        """Print a successful step."""
        self.steps.append({"step": name, "ok": True, "text": text})
        self._line(self._marks[0], "green", name, text)

    def fail(self, name: str, text: str) -> None:
        """Print a failed step; lines after the first are indented below it."""
        self.steps.append({"step": name, "ok": False, "text": text})
        first, *more = text.splitlines() or [""]
        self._line(self._marks[1], "red", name, first)
        for line in more:
            self.print(f"  {clean(line)}")

    def _line(self, mark: str, style: str, name: str, text: str) -> None:
        line = Text("  ") + Text(mark, style=style) + Text(f" {name.ljust(NAME_WIDTH)} ", style="bold")
        self.out.print(line + Text(wrapped(clean(text), line.cell_len, self.out)), soft_wrap=True)


async def run_demo(options: DemoOptions) -> bool:
    """Run the demo and return whether every check passed."""
    output = DemoOutput(console())
    started = time.monotonic()
    async with demo_environment(options.directory, lose_callbacks=options.lose_callbacks) as environment:
        output.step("provider", f"stand-in (sandbox) at {environment.provider_url}")
        output.step("service", f"{environment.client.url}, SQLite in {display_path(options.own_directory)}")
        try:
            with anyio.fail_after(TASK_SECONDS + HANDLER_SECONDS):
                video = await _run_task(output, environment, options)
        except (CommandFailed, TimeoutError) as error:
            output.fail(
                "failed", getattr(error, "message", "") or f"timed out after {TASK_SECONDS + HANDLER_SECONDS} s"
            )
            if not isinstance(error, UsageError):
                output.print(f"\nLog: {display_path(options.own_directory / LOG)}")
            if options.as_json:
                print_json({"ok": False, "steps": output.steps})
            return False
        output.print(f"\nDone in {time.monotonic() - started:.0f} s. Video: {display_path(video)}")
        url = environment.client.url
        if options.as_json:
            running = {"dashboard": f"{url}/"} if options.stay else {}
            print_json({"ok": True, "steps": output.steps, "video": str(video), **running})
        if options.stay:
            await _stay(output, url, options)
        elif not options.as_json:
            output.command("\nNext, with a dashboard, until you press Ctrl-C:", f"{program()} demo --stay")
    return True


async def _stay(output: DemoOutput, url: str, options: DemoOptions) -> None:
    """Print the addresses, and wait until the demo is interrupted."""
    image = display_path((*options.images, options.own_directory / HILLS)[0])
    output.print(f"\nStill running. Press Ctrl-C to stop. API: {url}/v1/tasks")
    submit = f"{program()} submit --url {url} --prompt 'A walk' --image {shlex.quote(image)} --wait"
    output.command("Submit another task, in another terminal:", submit)
    output.print(f"Dashboard: {url}/")
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            break
    output.print("\nStopping.")


def program() -> str:
    """Return how this command is run from here: by its path unless the shell finds it by its name."""
    program, found = Path(sys.argv[0]), shutil.which("boomerang")
    if program.name != "boomerang" or (found and Path(found).resolve() == program.resolve()):
        return "boomerang"
    return shlex.quote(str(program))


async def _run_task(output: DemoOutput, environment: DemoEnvironment, options: DemoOptions) -> Path:
    """Run one task to the end and return the path of its archived video. Raises CommandFailed if a check fails."""
    task = await environment.client.submit(await _request_body(output, options))
    output.step("submitted", f"task {task['id']} is stored")
    task = await follow(lambda seconds: environment.client.task(task["id"], wait=seconds), out=output.out)
    if task["status"] != "completed":
        reason = (task.get("error") or {}).get("message", "no reason given")
        raise CommandFailed(f"the task is {task['status']}: {reason}")
    await _check_settlement(output, environment, task, lose_callbacks=options.lose_callbacks)
    await _check_handlers(output, environment, task["id"])
    return await _check_video(output, await environment.client.task(task["id"]))


async def _request_body(output: DemoOutput, options: DemoOptions) -> Json:
    if options.images:
        images, origin = list(options.images), "from --image"
    else:
        images, origin = await anyio.to_thread.run_sync(draw_images, options.own_directory), "generated"
    output.step("images", f"{', '.join(path.name for path in images)} ({origin})")
    params: Json = {"prompt": options.prompt, **PARAMS, "images": media_values("image", [str(path) for path in images])}
    if options.video:
        params["videos"] = media_values("video", [str(options.video)])
        output.step("video", options.video.name)
    return {"model": MODEL, "params": params, "metadata": {"from": "boomerang demo"}}


async def _check_settlement(
    output: DemoOutput, environment: DemoEnvironment, task: Json, *, lose_callbacks: bool
) -> None:
    """Print how the task was settled. Raises CommandFailed if the source is not the expected one."""
    history = await environment.client.history(task["id"])
    callbacks = sum(row["kind"] == "callback" and row.get("verdict") == "accepted" for row in history)
    polls = sum(row["kind"] == "poll" for row in history)
    if lose_callbacks:
        output.step("no callback", f"none received; {_counted(polls, 'poll')} instead")
    elif callbacks:
        output.step("callback", f"{_counted(callbacks, 'callback')} received, tokens verified, result confirmed")
    expected = "poll" if lose_callbacks else "callback"
    if task["settled_by"] != expected or bool(callbacks) == lose_callbacks:
        received = f"{_counted(callbacks, 'callback')} received"
        raise CommandFailed(f"the task was settled by {task['settled_by']}, not by {expected}; {received}")
    cost = (task.get("usage") or {}).get("cost")
    output.step(
        "settled", f"{task['status']}, by {task['settled_by']}" + (f", cost {cost} USD (simulated)" if cost else "")
    )


async def _check_handlers(output: DemoOutput, environment: DemoEnvironment, task_id: str) -> None:
    """Print the deliveries of each handler. Raises CommandFailed if a handler or a webhook is missing."""
    receiver = environment.receiver
    for event in ("task.completed", "artifact.stored"):
        try:
            await receiver.wait_for(event, seconds=HANDLER_SECONDS)
        except TimeoutError:
            raise CommandFailed(f"no webhook for {event} was received; {await _dead_letters(environment)}") from None
    if receiver.refused:
        raise CommandFailed(f"{_counted(receiver.refused, 'webhook')} had an invalid signature")
    delivered = await _delivered_counts(environment, task_id)
    for handler in HANDLERS:
        if not delivered.get(handler):
            raise CommandFailed(f"the handler {handler} has no successful delivery; {await _dead_letters(environment)}")
    output.step("log", f"{_counted(delivered['log'], 'event')} handled")
    output.step("webhook", f"{_counted(len(receiver.events), 'event')} received, every signature verified")


async def _delivered_counts(environment: DemoEnvironment, task_id: str) -> dict[str, int]:
    """Return the successful deliveries of each handler, when none is pending or after HANDLER_SECONDS."""
    for _ in range(HANDLER_SECONDS * 10):
        rows = [row for row in await environment.client.history(task_id) if row["kind"] == "delivery"]
        if all(row["status"] != "pending" for row in rows):
            break
        await anyio.sleep(0.1)
    handlers = [row["handler"] for row in rows if row["status"] == "delivered"]
    return {handler: handlers.count(handler) for handler in handlers}


async def _dead_letters(environment: DemoEnvironment) -> str:
    rows = (await environment.client.deliveries(status="dead"))["data"]
    return "; ".join(f"{row['handler']}: {row['last_error']}" for row in rows) or "there are no dead letters"


async def _check_video(output: DemoOutput, task: Json) -> Path:
    """Decode the archived video and return its path. Raises CommandFailed if it is missing or does not play."""
    url = next((item["archived_url"] for item in task["output"] if item.get("archived_url")), None)
    if url is None:
        raise CommandFailed("the task has no archived video")
    path = Path(url2pathname(urlsplit(url).path))
    try:
        video = await anyio.to_thread.run_sync(decode_video, path)
    except ValueError as error:
        raise CommandFailed(str(error)) from error
    output.step("archive", f"{path.name}, {video.bytes / 1000:,.0f} kB")
    output.step("playable", f"{video.width}x{video.height}, {video.seconds:.1f} s, all {video.frames} frames decoded")
    return path


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def display_path(path: Path) -> str:
    """Return a path relative to the working directory if it lies inside, else the path itself."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
