"""The commands of the Procfile, run as a platform runs them."""

from pathlib import Path

import pytest

from tests.acceptance.environment import client, service, settings, upstream
from tests.acceptance.processes import HOST, Child, Workspace, command, until, wait_for_response
from tests.acceptance.shutdown_helpers import terminate_and_wait
from tests.support.ports import free_port

PROCFILE = Path(__file__).parents[2] / "Procfile"
KEY = "key-of-the-only-client"


def lines() -> dict[str, str]:
    """Return the command of each process type in the Procfile."""
    entries = (line.partition(":") for line in PROCFILE.read_text().splitlines() if line.strip())
    return {name.strip(): command.strip() for name, _, command in entries}


def platform(upstream_url: str, database_url: str, port: int) -> dict[str, str]:
    """Return the environment of a platform: PORT and DATABASE_URL, the latter with the scheme `postgres`."""
    env = settings(upstream_url, f"http://{HOST}:{port}", "", API_KEYS=f"client={KEY}", HANDLERS="log")
    plain = database_url.replace("postgresql://", "postgres://", 1)
    # on a platform the web process listens on all interfaces; tests use loopback
    return {**env, "PORT": str(port), "DATABASE_URL": plain, "WEB_HOST": HOST}


def started(workspace: Workspace, name: str, env: dict[str, str]) -> Child:
    """Start one command of the Procfile in a shell, as platforms do."""
    return workspace.run(name, ["/bin/sh", "-c", lines()[name]], env=env, url=f"http://{HOST}:{env['PORT']}")


def test_procfile_has_three_process_types() -> None:
    """The process types are release, web and worker; each replaces the shell, also one that would stay its parent."""
    assert list(lines()) == ["release", "web", "worker"]
    assert all(line.startswith("exec boomerang ") for line in lines().values())
    assert "0.0.0.0" in lines()["web"]  # noqa: S104 - required on platforms


async def test_procfile_runs_a_task_on_postgres(workspace: Workspace, empty_postgres: str) -> None:
    """The web process and the worker become ready after the release step, and the task completes."""
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
            await terminate_and_wait(child)
            assert '"stopped"' in child.output()


@pytest.mark.parametrize("name", ["release", "web", "worker"])
async def test_the_shell_is_replaced_by_the_command(workspace: Workspace, name: str) -> None:
    """Each line runs under `sh -c` as the process that the platform started, so that its SIGTERM arrives."""
    env = platform(f"http://{HOST}:9", f"sqlite:///{workspace.home}/boomerang.db", free_port())
    child = started(workspace, name, env)
    if name == "release":
        assert await child.ended() == 0
        return
    program = Path(f"/proc/{child.process.pid}/cmdline")
    await until(
        lambda: b"boomerang" in [*program.read_bytes().split(b"\0"), b""][1], what="the command instead of the shell"
    )
    await wait_for_response(child)
    await terminate_and_wait(child)
    assert '"stopped"' in child.output()


async def test_public_address_requires_api_keys(workspace: Workspace) -> None:
    """Without API keys the web process does not listen on a public address."""
    env = settings(f"http://{HOST}:9", None, f"sqlite:///{workspace.home}/boomerang.db")
    code, _, err = await command(workspace, "serve", "--role", "web", "--host", "0.0.0.0", "--port", "0", env=env)  # noqa: S104 - must be refused
    assert code == 2
    assert "BOOMERANG_API_KEYS" in err


@pytest.mark.parametrize("name", ["web", "worker"])
async def test_postgres_requires_a_signing_key(workspace: Workspace, empty_postgres: str, name: str) -> None:
    """Processes on several machines cannot share a generated key, so that the start fails."""
    env = platform(f"http://{HOST}:9", empty_postgres, free_port())
    del env["BOOMERANG_SECRET_KEYS"]
    child = started(workspace, name, env)
    assert await child.ended() == 2
    assert "BOOMERANG_SECRET_KEYS" in child.output()
