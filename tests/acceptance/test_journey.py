"""A task end to end in real processes: from real images to an archived video and signed webhooks."""

import json
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urlsplit

import av
import pytest

from service.domain.webhook_secrets import derive_webhook_secret
from tests.acceptance.environment import SECRET, serve, service, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Json, Workspace, command
from tests.acceptance.receiver import ReceivedWebhook, receiving
from tests.support.ports import free_port
from tests.support.sample_media import image


def pictures(home: Path) -> list[Path]:
    """Write two real images."""
    paths = [home / "cat.png", home / "hat.jpg"]
    paths[0].write_bytes(image("PNG", (320, 240)))
    paths[1].write_bytes(image("JPEG", (256, 256)))
    return paths


async def submitted(workspace: Workspace, url: str) -> Json:
    """Submit with the command line, wait, and return the task."""
    images = [word for path in pictures(workspace.home) for word in ("--image", str(path))]
    options = ["--param", "duration=2", "--param", "resolution=540p", "--param", "aspect_ratio=9:16"]
    arguments = ["submit", "--prompt", "the cat puts on the hat", *images, *options, "--metadata", "chat=42"]
    code, out, err = await command(workspace, *arguments, "--wait", "--json", env={"BOOMERANG_URL": url})
    assert code == 0, err
    found: Json = json.loads(out)
    return found


def video_properties(hook: ReceivedWebhook) -> tuple[float, int, int]:
    """Return duration in seconds, width and height of the archived video."""
    address = hook.body["data"]["task"]["output"][0]["archived_url"]
    data = Path(unquote(urlsplit(address).path)).read_bytes()
    with av.open(BytesIO(data), "r") as container:
        frames = list(container.decode(video=0))
        rate = container.streams.video[0].average_rate
        assert rate
        return len(frames) / float(rate), frames[0].width, frames[0].height


@pytest.mark.parametrize(
    ("source", "provider"),
    [
        ("callback", "vtrix"),
        ("callback", "vidu"),
        ("poll", "vtrix"),
        pytest.param("poll", "vidu", marks=pytest.mark.slow),
    ],
)
async def test_task_runs_end_to_end(workspace: Workspace, provider: str, source: str) -> None:
    """The archived video has the requested duration and aspect ratio, and a signed webhook reports it."""
    switches = ["--run-time", "1s", *(["--no-callbacks"] if source == "poll" else [])]
    public_url = f"http://{HOST}:{free_port()}"
    async with upstream(workspace, *switches) as sandbox, receiving(derive_webhook_secret(SECRET)) as receiver:
        base = sandbox.url + ("/ent/v2" if provider == "vidu" else "")
        archive = (workspace.home / "videos").as_uri()
        first = "30s" if source == "callback" else "1s"
        more = {"PROVIDER": provider, "ARCHIVE_URL": archive, "WEBHOOK_URL": receiver.url, "POLL_FIRST": first}
        child = await serve(workspace, settings(base, public_url, sqlite(workspace), **more))
        task = await submitted(workspace, public_url)
        webhook = await receiver.received("artifact.stored")
        async with service(child) as at:
            await at.wait_until_idle()
        bills = (await sandbox.ledger())["bills"]
    assert (task["status"], task["settled_by"], task["metadata"]) == ("completed", source, {"chat": 42})
    assert receiver.refused == []
    assert webhook.body["data"]["task"]["id"] == task["id"]
    seconds, width, height = video_properties(webhook)
    assert seconds == pytest.approx(2, abs=0.2)
    assert width / height == pytest.approx(9 / 16, abs=0.02)
    assert [bill["upstream_id"] for bill in bills] == [task["upstream_id"]]
    kinds = {hook.body["type"] for hook in receiver.hooks}
    assert kinds >= {"task.submitted", "task.completed", "artifact.stored"}
