"""The public tools for tests of handlers."""

from pathlib import Path
from typing import Any

import httpx
import pytest

import service.testing
from service import Artifact
from service.domain.errors import BadHandler, BadSetting
from service.domain.task import EventType
from service.sandbox import MediaExtraMissing
from service.testing import FakeClock, HandlerTest, load_handlers, sample_event, sample_task
from tests.unit.handler_api import bot


@pytest.mark.parametrize("type_", [each.value for each in EventType])
def test_sample_event_fits_its_type(type_: str) -> None:
    """The task has the status of the event, output if it is completed, and says that it is a test."""
    event = sample_event(type_)
    assert (event.type, event.task.note, event.metadata) == (type_, "test event of Boomerang", {"sample": True})
    assert bool(event.task.output) == (event.task.status == "completed")
    assert (event.artifact is not None) == (type_ == "artifact.stored")
    assert event.id != sample_event(type_).id


def test_sample_event_can_be_changed() -> None:
    """The task, the artifact, the payload."""
    artifact = Artifact(url="a", archived_url="b", media_type="video/mp4", bytes=1, sha256="c")
    event = sample_event(task=sample_task(id="mine", progress=0.1), payload="own", artifact=artifact, client="ada")
    assert (event.task.id, event.task.progress, event.payload, event.client) == ("mine", 0.1, "own", "ada")
    assert event.artifact == artifact


async def test_outcome_is_what_the_service_would_record() -> None:
    """Delivered, tried again with its pause, or dead; no error has a value of the settings."""
    status = 200
    settings = {"BOT_SECRET": "hidden-secret"}
    clock = FakeClock()

    def respond(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={"to": str(request.url)})

    async with HandlerTest(bot.handlers, "bot", settings=settings, respond=respond, clock=clock) as test:
        assert (await test.deliver(target={"chat": 7})).delivered
        status = 503
        outcome = await test.deliver(target={"chat": 7}, attempt=2)
        assert (outcome.outcome, outcome.after) == ("retry", 30.0)
        assert outcome.error == "HTTPStatusError: the address answered 503"
        assert (await test.deliver(target={"chat": 7}, attempt=9)).outcome == "dead"
        assert len(test.requests) == 3
        await test.advance(5)
        assert test.tools.now() == clock.now()
        with pytest.raises(LookupError):
            await test.finish("no such task")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "handler 'bot' needs BOOMERANG_BOT_SECRET"),
        ({"BOT_SECRET": "a", "BOT_A_DAY": "0"}, "BOOMERANG_BOT_A_DAY must be greater than or equal to 1"),
        ({"BOT_SECRET": "a", "BOT_CHAT": "1"}, "BOOMERANG_BOT_CHAT is not a setting; did you mean"),
    ],
)
async def test_wrong_settings_are_reported_as_at_a_start(settings: dict[str, str], message: str) -> None:
    """Nothing is started."""
    with pytest.raises(BadSetting, match=message):
        async with HandlerTest(bot.handlers, settings=settings):
            pass


def test_module_is_loaded_as_the_service_does(tmp_path: Path) -> None:
    """With relative imports of its neighbours; a module without handlers is refused with the fix."""
    (tmp_path / "_texts.py").write_text("NAME = 'from-a-neighbour'\n")
    source = (
        "from service import Event, Handlers, Tools\nfrom ._texts import NAME\nhandlers = Handlers()\n"
        "@handlers.on(name=NAME)\nasync def sample(event: Event, tools: Tools) -> None: ...\n"
    )
    (tmp_path / "own.py").write_text(source)
    assert [each.name for each in load_handlers(tmp_path / "own.py")] == ["from-a-neighbour"]
    with pytest.raises(BadHandler, match="has no handlers"):
        load_handlers(tmp_path / "_texts.py")


async def test_without_the_media_extra_only_submitted_tasks_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that submits nothing is tested all the same."""

    def missing(*_: Any, **__: Any) -> Any:
        raise MediaExtraMissing("the extra `media` is missing")

    monkeypatch.setattr(service.testing, "Sandbox", missing)
    async with HandlerTest(bot.handlers, settings={"BOT_SECRET": "a"}) as test:
        assert (await test.deliver(target={"chat": 7})).delivered
