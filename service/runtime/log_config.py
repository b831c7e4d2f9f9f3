"""Logs on standard error: for a person on a terminal, else one JSON object a line."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import MutableMapping
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

QUIET_LOGGERS = ("httpx", "httpcore", "apscheduler", "aiosqlite", "sqlalchemy", "alembic", "uvicorn", "PIL", "asyncio")
"""Libraries that speak only of warnings: some of them would log addresses with tokens."""

ENCODER = json.JSONEncoder(default=repr)
"""Made once: `json.dumps` would make one for each line."""

ROOT_LOGGER = logging.getLogger()
LEVELS = {name.lower(): number for name, number in logging.getLevelNamesMapping().items()}


class BufferedStderr(logging.StreamHandler[Any]):
    """Writes lines, whole and in their order; those that may wait, once for each lap of the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[str] = []
        self._flushes: asyncio.AbstractEventLoop | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write what waits, then a record of the standard library's."""
        self.flush()
        super().emit(record)

    def write_soon(self, line: str) -> None:
        """Write a line before the event loop sleeps; at once where none is running."""
        self._waiting.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if self._flushes is not loop:
            self._flushes = loop
            loop.call_soon(self.flush)

    def write_now(self, line: str) -> None:
        """Write a line, and what waits before it."""
        self._waiting.append(line)
        self.flush()

    def flush(self) -> None:
        """Write what waits; what cannot be written is lost, and stops nobody."""
        with self.lock or nullcontext():
            self._flushes = None
            lines, self._waiting = self._waiting, []
            with suppress(OSError, ValueError):  # a full disk, a stream that was closed
                if lines:
                    self.stream.write("".join(f"{line}\n" for line in lines))
                super().flush()


class LineLogger:
    """Writes our own lines, already rendered, where the standard library's go: no record has to be made for each."""

    out = BufferedStderr()

    def __init__(self, name: str = "") -> None:
        self.name = name

    def soon(self, line: str) -> None:
        """Write one line, with others of its moment."""
        self.out.write_soon(line)

    def now(self, line: str) -> None:
        """Write one line at once: what goes wrong may be the last that is heard."""
        self.out.write_now(line)

    debug = info = soon
    warning = error = critical = now


def render_json(lines: LineLogger, method: str, line: MutableMapping[str, Any]) -> str:
    """Render a line as JSON: all that structlog's own processors do, without a call for each."""
    if line.get("exc_info"):
        line = structlog.processors.format_exc_info(lines, method, line)
    line.update(level=method, logger=lines.name, timestamp=_timestamp())
    return ENCODER.encode(line)


def _timestamp() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat() + "Z"


def drop_below_level(_: object, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop lines below the level that the standard library's root has now."""
    if LEVELS[method] < ROOT_LOGGER.level:
        raise structlog.DropEvent
    return line


def configure_logging(style: Literal["console", "json"], level: str) -> None:
    """Send our own log lines, and those of the standard library's loggers, to standard error in one `style`."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    ours: list[Any] = [render_json] if style == "json" else [*shared, *_rendering(style)]
    structlog.configure(
        processors=[drop_below_level, *ours],
        logger_factory=LineLogger,
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        cache_logger_on_first_use=True,
    )
    LineLogger.out.setStream(sys.stderr)
    LineLogger.out.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(style)],
        )
    )
    logging.basicConfig(handlers=[LineLogger.out], level=level.upper(), force=True)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def _rendering(style: str) -> list[Any]:
    if style == "console":
        return [
            _escape_unprintable,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and "NO_COLOR" not in os.environ),
        ]
    return [structlog.processors.JSONRenderer(_as_json)]


def _as_json(line: MutableMapping[str, Any], **_: object) -> str:
    return ENCODER.encode(line)


def _escape_unprintable(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what would begin a line of its own or steer the terminal; JSON escapes it by itself."""
    for name, value in event.items():
        if isinstance(value, str):
            kept = "\n" if name == "exception" else ""
            event[name] = "".join(_escape(char) if char not in kept else char for char in value)
    return event


def _escape(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
