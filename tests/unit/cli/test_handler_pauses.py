"""The commands `handlers pause` and `handlers resume`, and the state that `handlers` shows."""

import asyncio
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.storage import migrate, open_store
from tests.unit.cli.fake_service import FakeService, fake_service, problem, run

HANDLER = {"name": "log", "paused": True, "paused_at": "2026-05-06T12:09:42.000Z", "paused_by": "root"}


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty directory without BOOMERANG_* variables."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BOOMERANG_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def service() -> Iterator[FakeService]:
    """Run a fake service."""
    with fake_service() as fake:
        yield fake


def test_pause_and_resume_call_the_service(service: FakeService) -> None:
    """Both print the state; an unknown handler fails the command."""
    service.respond_to("POST /v1/handlers/log/pause", (200, HANDLER))
    result = run("handlers", "pause", "log", url=service.url)
    assert (result.exit_code, "paused" in result.stderr, "root" in result.stderr) == (0, True, True)
    resumed = HANDLER | {"paused": False, "paused_at": None, "paused_by": None}
    service.respond_to("POST /v1/handlers/log/resume", (200, resumed))
    result = run("handlers", "resume", "log", "--json", url=service.url)
    assert json.loads(result.stdout)["paused"] is False
    service.respond_to("POST /v1/handlers/nope/pause", (404, problem("there is no such handler")))
    assert run("handlers", "pause", "nope", url=service.url).exit_code == 1


def test_list_shows_since_when_a_handler_is_paused(tmp_path: Path) -> None:
    """The pause is read from the database, if there is one; the list itself makes none."""
    assert run("handlers").exit_code == 0
    assert not (tmp_path / "boomerang.db").exists()
    asyncio.run(_pause(f"sqlite:///{tmp_path}/boomerang.db"))
    rows = {row["name"]: row["paused_at"] for row in json.loads(run("handlers", "--json").stdout)}
    assert (rows["log"], rows["webhook"]) == ("2026-05-06T12:09:00+00:00", None)
    assert "loaded, paused since 2026-05-06T12:09:00+00:00" in run("handlers").stderr


def test_list_works_without_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that does not answer hides the pauses, and nothing else."""
    monkeypatch.setenv("BOOMERANG_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
    rows = json.loads(run("handlers", "--json").stdout)
    assert {row["paused_at"] for row in rows} == {None}


async def _pause(url: str) -> None:
    await migrate(url)
    async with open_store(url) as store:
        at = datetime(2026, 5, 6, 12, 9, tzinfo=UTC)
        await store.handler_pauses.pause("log", names=["log"], by="root", now=at)
