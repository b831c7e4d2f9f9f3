"""The Procfile is what a platform starts: its lines are run as they stand."""

from pathlib import Path

import pytest

from tests.acceptance.environment import client, service, settings, upstream
from tests.acceptance.processes import HOST, Child, Workspace, command, free_port, wait_for_response

PROCFILE = Path(__file__).parents[2] / "Procfile"
KEY = "key-of-the-only-client"


def lines() -> dict[str, str]:
    """Return each process type of the Procfile, and its command."""
    entries = (line.partition(":") for line in PROCFILE.read_text().splitlines() if line.strip())
    return {name.strip(): words.strip() for name, _, words in entries}


def platform(upstream_url: str, database_url: str, port: int) -> dict[str, str]:
    """Return the environment that a platform gives to every process: plain names, and the old form of the address."""
    ours = settings(upstream_url, f"http://{HOST}:{port}", "", API_KEYS=f"client={KEY}", HANDLERS="log")
    plain = database_url.replace("postgresql://", "postgres://", 1)
    # a platform's router reaches every interface; here the loopback must do
    return {**ours, "PORT": str(port), "DATABASE_URL": plain, "WEB_HOST": HOST}


def started(workspace: Workspace, name: str, env: dict[str, str]) -> Child:
    """Start one line of the Procfile through a shell, as platforms do."""
    return workspace.run(name, ["/bin/sh", "-c", f"exec {lines()[name]}"], env=env, url=f"http://{HOST}:{env['PORT']}")


def test_it_names_the_three_processes() -> None:
    """A release step, a web process and a worker."""
    assert list(lines()) == ["release", "web", "worker"]
    assert "0.0.0.0" in lines()["web"]  # noqa: S104 - a platform's router comes from outside


async def test_its_lines_run_a_task_over_postgres(workspace: Workspace, empty_postgres: str) -> None:
    """The web process waits for the release step, gets ready by itself, and the worker runs the task."""
    async with upstream(workspace, "--tiny-videos", "--run-time", "500ms") as sandbox:
        env = platform(sandbox.url, empty_postgres, free_port())
        web = started(workspace, "web", env)
        await wait_for_response(web, status=503)
        async with client(web.url) as http:
            assert "boomerang migrate" in (await http.get("/readyz")).json()["detail"]
        worker = started(workspace, "worker", {**env, "PORT": str(free_port())})
        await wait_for_response(worker, status=503)
        release = started(workspace, "release", env)
        assert await release.ended() == 0
        await wait_for_response(web)
        await wait_for_response(worker)
        async with service(web, key=KEY) as at:
            task = await at.wait_until_settled((await at.submit())["id"])
            assert (task["status"], task["settled_by"]) == ("completed", "callback")
        for child in (web, worker):
            child.terminate()
            assert await child.ended() == 0


async def test_a_public_address_needs_keys(workspace: Workspace) -> None:
    """Without API keys the web process refuses to be reached from outside."""
    env = settings(f"http://{HOST}:9", None, f"sqlite:///{workspace.home}/boomerang.db")
    code, _, err = await command(workspace, "serve", "--role", "web", "--host", "0.0.0.0", "--port", "0", env=env)  # noqa: S104 - refused
    assert code == 2
    assert "BOOMERANG_API_KEYS" in err


@pytest.mark.parametrize("name", ["web", "worker"])
async def test_postgres_needs_a_signing_key(workspace: Workspace, empty_postgres: str, name: str) -> None:
    """Processes on several machines cannot share a key that one of them made up: the start is refused."""
    env = platform(f"http://{HOST}:9", empty_postgres, free_port())
    del env["BOOMERANG_SECRET_KEYS"]
    child = started(workspace, name, env)
    assert await child.ended() == 2
    assert "BOOMERANG_SECRET_KEYS" in child.output()
