"""A handler of results runs once for each completed task, after its results are stored where they are."""

from pathlib import Path
from typing import Any

import pytest

from service import Event, Handlers, Tools
from service.deliveries.handler_api import Handler
from service.deliveries.handler_loader import load_handlers
from service.domain.errors import BadHandler

MODULE = """
from service import Event, Handlers, Tools

handlers = Handlers()


@handlers.on_result(name="chat", attempts=3, timeout=9, concurrency=2, by_request=True)
async def send(event: Event, tools: Tools) -> None:
    pass
"""
VIDEO = {"type": "video", "url": "https://cdn.example/v"}
STORED = {"archived_url": "file:///srv/v.mp4"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory with a handler of results."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "chat.py").write_text(MODULE)
    return tmp_path


def loaded(directory: Path, **settings: str) -> Handler:
    """Return the handler, loaded with these settings."""
    return load_handlers(None, settings, directory=directory)["chat"]


def test_event_depends_on_the_archive(directory: Path) -> None:
    """It receives `artifact.stored` where the archive is loaded, else `task.completed`; never both."""
    assert loaded(directory).events == {"task.completed"}
    assert loaded(directory, ARCHIVE_URL="file:///srv").events == {"artifact.stored"}
    only = load_handlers(["chat"], {"ARCHIVE_URL": "file:///srv"}, directory=directory)["chat"]
    assert only.events == {"task.completed"}


def test_parameters_are_those_of_every_handler(directory: Path) -> None:
    """Attempts, times and names are given as for other handlers."""
    handler = loaded(directory)
    assert (handler.attempts, handler.timeout, handler.concurrency, handler.by_request) == (3, 9, 2, True)


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ([VIDEO | STORED], True),
        ([VIDEO | STORED, VIDEO], False),
        ([VIDEO | STORED, VIDEO | STORED], True),
        ([VIDEO | STORED, {"type": "text"}], True),
    ],
)
def test_the_last_stored_result_counts(directory: Path, output: list[dict[str, Any]], wanted: bool) -> None:
    """Of several results the event of the last one runs it, when all are stored."""
    handler = loaded(directory, ARCHIVE_URL="file:///srv")
    assert handler.wants("artifact.stored", output) is wanted
    assert not handler.wants("task.completed", output)


def test_other_handlers_get_every_event() -> None:
    """A handler that asks for `artifact.stored` itself receives one for each result."""
    handlers = Handlers()

    @handlers.on("artifact.stored", name="each")
    async def each(event: Event, tools: Tools) -> None:
        raise AssertionError((event, tools))

    (handler,) = handlers
    assert handler.wants("artifact.stored", [VIDEO | STORED, VIDEO])


def test_wrong_registration_is_refused() -> None:
    """A sync function is refused at import, with the fix."""
    with pytest.raises(BadHandler, match="async def wrong"):

        @Handlers().on_result(name="wrong")  # type: ignore[type-var]
        def wrong(event: Event, tools: Tools) -> None:
            raise AssertionError((event, tools))
