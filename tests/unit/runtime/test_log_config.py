"""Log lines are complete, in order, and written immediately when they are warnings."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import httpx
import pytest
import structlog

from service.runtime.log_config import LineLogger, configure_logging

LIBRARIES = (
    "httpx",
    "httpcore.connection",
    "aiosqlite",
    "sqlalchemy.engine",
    "apscheduler.executors",
    "uvicorn.access",
)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Yield the stream of JSON lines at the level `info`; restore logging afterwards."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    configure_logging("json", "info")
    structlog.configure(cache_logger_on_first_use=False)
    stream = io.StringIO()
    LineLogger.out.setStream(stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**before)


def events(written: io.StringIO) -> list[str]:
    """Return the events of the lines so far."""
    return [json.loads(line)["event"] for line in written.getvalue().splitlines()]


def test_line_is_written_immediately_without_a_loop(written: io.StringIO) -> None:
    """Without an event loop a line is not buffered; a line below the level is dropped."""
    log = structlog.get_logger("boomerang.test")
    log.debug("hidden")
    log.info("visible", task="t1")
    (line,) = written.getvalue().splitlines()
    parsed = json.loads(line)
    assert (parsed["event"], parsed["task"], parsed["level"], parsed["logger"]) == (
        "visible",
        "t1",
        "info",
        "boomerang.test",
    )
    assert parsed["timestamp"].endswith("Z")


def test_lines_of_one_iteration_are_written_together(written: io.StringIO) -> None:
    """Buffered lines are written before the event loop sleeps."""
    log = structlog.get_logger("boomerang.test")

    async def log_lines() -> tuple[list[str], list[str]]:
        log.info("one")
        log.info("two")
        before = events(written)
        await asyncio.sleep(0)
        return before, events(written)

    assert asyncio.run(log_lines()) == ([], ["one", "two"])


@pytest.mark.parametrize("how", ["warning", "standard"])
def test_warning_is_written_immediately_with_buffered_lines(written: io.StringIO, how: str) -> None:
    """A warning or a record of the standard library is written immediately and in order."""
    log = structlog.get_logger("boomerang.test")

    async def log_lines() -> list[str]:
        log.info("before")
        if how == "warning":
            log.warning("trouble")
        else:
            logging.getLogger("elsewhere").info("trouble")
        return events(written)

    assert asyncio.run(log_lines()) == ["before", "trouble"]


def test_line_that_cannot_be_written_raises_nothing(written: io.StringIO) -> None:
    """A full disk does not make the logging code fail."""
    log = structlog.get_logger("boomerang.test")
    written.close()
    log.info("lost")
    log.error("lost as well")
    LineLogger.out.setStream(again := io.StringIO())
    log.error("back")
    assert events(again) == ["back"]


def test_error_is_one_line_with_its_traceback(written: io.StringIO) -> None:
    """A traceback is part of its line."""
    log = structlog.get_logger("boomerang.test")
    try:
        int("no number")
    except ValueError:
        log.exception("failed")
    (line,) = written.getvalue().splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exception"]


@pytest.mark.parametrize("level", ["debug", "info"])
async def test_address_of_a_request_is_not_logged(written: io.StringIO, level: str) -> None:
    """The HTTP client logs no request: its address may contain a token. Its warnings are logged."""
    logging.getLogger().setLevel(level.upper())
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    async with httpx.AsyncClient(transport=transport) as client:
        await client.get("https://files.example/video.mp4?token=hidden")
    assert written.getvalue() == ""
    logging.getLogger("httpx").warning("broken")
    assert events(written) == ["broken"]


@pytest.mark.parametrize("name", LIBRARIES)
def test_libraries_log_only_warnings(written: io.StringIO, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """At every level of our own, a library's lines below a warning are dropped: they may show what is secret."""
    monkeypatch.setattr(logging.getLogger(name), "propagate", True)  # a server of another test ends it
    logging.getLogger().setLevel(logging.DEBUG)
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        logging.getLogger(name).log(level, "line %s", logging.getLevelName(level))
    assert events(written) == ["line WARNING"]


@pytest.mark.parametrize("logger", ["structlog", "logging"])
def test_console_line_cannot_be_broken_or_coloured_by_a_value(written: io.StringIO, logger: str) -> None:
    """Line breaks and control characters of a value are escaped: it forges no second line and moves no cursor."""
    configure_logging("console", "info")
    structlog.configure(cache_logger_on_first_use=False)
    LineLogger.out.setStream(written)
    value = "a\x1b[31m\nforged line\r\x9b2J\u2028"
    if logger == "structlog":
        structlog.get_logger("boomerang.test").info("event", value=value)
    else:
        logging.getLogger("boomerang.test").info("event %s", value)
    text = written.getvalue()
    assert text.count("\n") == 1
    assert not {"\x1b", "\r", "\x9b", "\u2028"} & set(text)
    assert "forged line" in text
