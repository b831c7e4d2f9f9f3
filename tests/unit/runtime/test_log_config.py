"""Log lines: whole, in their order, and none held back when it matters."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from service.runtime.log_config import LineLogger, configure_logging


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Return where JSON lines are written, at the level `info`; logging is as before afterwards."""
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
    """Return what the lines so far are about."""
    return [json.loads(line)["event"] for line in written.getvalue().splitlines()]


def test_line_is_written_at_once_where_no_loop_runs(written: io.StringIO) -> None:
    """A command that only computes says what it has to say; what is below the level is not said."""
    log = structlog.get_logger("boomerang.test")
    log.debug("hidden")
    log.info("said", task="t1")
    (line,) = written.getvalue().splitlines()
    said = json.loads(line)
    assert (said["event"], said["task"], said["level"], said["logger"]) == ("said", "t1", "info", "boomerang.test")
    assert said["timestamp"].endswith("Z")


def test_lines_of_one_lap_are_written_together_before_the_loop_sleeps(written: io.StringIO) -> None:
    """Nobody waits for a line longer than the loop is busy."""
    log = structlog.get_logger("boomerang.test")

    async def say() -> tuple[list[str], list[str]]:
        log.info("one")
        log.info("two")
        at_first = events(written)
        await asyncio.sleep(0)
        return at_first, events(written)

    assert asyncio.run(say()) == ([], ["one", "two"])


@pytest.mark.parametrize("how", ["warning", "standard"])
def test_what_may_be_the_last_takes_along_what_waits(written: io.StringIO, how: str) -> None:
    """A warning, and whatever the standard library logs, is written at once and in its place."""
    log = structlog.get_logger("boomerang.test")

    async def say() -> list[str]:
        log.info("before")
        if how == "warning":
            log.warning("trouble")
        else:
            logging.getLogger("elsewhere").info("trouble")
        return events(written)

    assert asyncio.run(say()) == ["before", "trouble"]


def test_line_that_cannot_be_written_stops_nobody(written: io.StringIO) -> None:
    """A full disk under the log is no reason to break off what is being told of."""
    log = structlog.get_logger("boomerang.test")
    written.close()
    log.info("lost")
    log.error("lost as well")
    LineLogger.out.setStream(again := io.StringIO())
    log.error("back")
    assert events(again) == ["back"]


def test_error_is_one_line_with_its_traceback(written: io.StringIO) -> None:
    """A traceback does not break a line in two."""
    log = structlog.get_logger("boomerang.test")
    try:
        int("no good")
    except ValueError:
        log.exception("broke off")
    (line,) = written.getvalue().splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exception"]
