"""The command `boomerang demo`: one task through the whole loop, on this machine, with nothing configured."""

from importlib.util import find_spec
from pathlib import Path

import anyio
import click

from service.cli import EXIT_FAILED, UsageError
from service.cli.media_options import media_values

PROMPT = "A boomerang turns over the evening hills and comes back to the hand that threw it."
EXTRAS = {"PIL": "Pillow", "av": "PyAV"}

files = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--image", multiple=True, type=files, help="A reference image; up to 7. Without any, three are drawn.")
@click.option("--video", type=files, help="A reference video.")
@click.option("--prompt", default=PROMPT, help="What the video shows.")
@click.option("--lose-callbacks", is_flag=True, help="The upstream never calls back; the poller finishes the task.")
@click.option("--stay", is_flag=True, help="Keep running afterwards, to try the API.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default="boomerang-demo",
    show_default=True,
    help="Where the database, the log and the video go.",
)
def demo(
    *, image: tuple[Path, ...], video: Path | None, prompt: str, lose_callbacks: bool, stay: bool, directory: Path
) -> None:
    """Show the whole story: a task, its progress, its callback, the handlers and the kept video.

    Starts a stand-in upstream and the service on free loopback ports, with a database of their own. Needs no account,
    no key and no settings.
    """
    missing = [name for module, name in EXTRAS.items() if find_spec(module) is None]
    if missing:
        raise UsageError(
            f"the demo draws and plays real media and lacks {' and '.join(missing)}; "
            "the extra `media_values` is missing; pip install -r requirements.txt brings it"
        )
    for kind, given in (("image", image), ("video", (video,) if video else ())):
        media_values(kind, [str(path) for path in given])  # a wrong file is told before anything starts
    from service.cli.demo.run import DemoOptions, run_demo  # noqa: PLC0415 - needs the extra

    options = DemoOptions(
        prompt=prompt,
        images=image,
        video=video,
        lose_callbacks=lose_callbacks,
        stay=stay,
        directory=directory.resolve(),
    )
    if not anyio.run(run_demo, options):
        raise click.exceptions.Exit(EXIT_FAILED)
