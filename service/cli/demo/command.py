"""The command `boomerang demo`: one task end to end on this machine, without configuration."""

from importlib.util import find_spec
from pathlib import Path

import anyio
import click
from rich.text import Text

from service.cli import EXIT_FAILED, UsageError
from service.cli.media_options import media_values
from service.cli.output import console, wrapped

PROMPT = "A boomerang turns over the evening hills and comes back to the hand that threw it."
HEAD = "Boomerang demo: one task from a prompt to an archived video, on this machine only."
EXTRAS = {"PIL": "Pillow", "av": "PyAV"}

files = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--image", multiple=True, type=files, help="Reference image; repeat for up to 7. Default: three generated images."
)
@click.option("--video", type=files, help="Reference video.")
@click.option("--prompt", default=PROMPT, help="Description of the video.")
@click.option("--lose-callbacks", is_flag=True, help="Send no callbacks; polling settles the task.")
@click.option("--stay", is_flag=True, help="Keep running after the task, with the dashboard.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output: each step, and the results.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default="boomerang-demo",
    show_default=True,
    help="Directory for the video; the other files are in boomerang-demo inside it, unless that is its name.",
)
def demo(
    *,
    image: tuple[Path, ...],
    video: Path | None,
    prompt: str,
    lose_callbacks: bool,
    stay: bool,
    as_json: bool,
    directory: Path,
) -> None:
    """Run one task end to end: submission, progress, callback, handlers and archived video.

    Starts the stand-in provider (sandbox) and the service on free loopback ports, with a new database. Requires no
    account, API key or settings.
    """
    missing = [name for module, name in EXTRAS.items() if find_spec(module) is None]
    if missing:
        raise UsageError(
            f"the demo generates and decodes media and requires {' and '.join(missing)} (extra `media`); "
            "install it with: pip install -r requirements.txt"
        )
    for kind, paths in (("image", image), ("video", (video,) if video else ())):
        media_values(kind, [str(path) for path in paths])  # reject invalid files before anything starts
    out = console()
    out.print(Text(wrapped(HEAD, 0, out)), end="\n\n", soft_wrap=True)  # before the slow import
    from service.cli.demo.run import DemoOptions, run_demo  # noqa: PLC0415 - requires the extra

    options = DemoOptions(
        prompt=prompt,
        images=image,
        video=video,
        lose_callbacks=lose_callbacks,
        stay=stay,
        as_json=as_json,
        directory=directory.resolve(),
    )
    if not anyio.run(run_demo, options):
        raise click.exceptions.Exit(EXIT_FAILED)
