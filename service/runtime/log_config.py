"""Configure logging to standard error: readable lines on a terminal, else one JSON object per line."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

import structlog

from service.runtime.output_writer import OutputWriter, writer_for

QUIET_LOGGERS = (
    "httpx",
    "httpcore",
    "apscheduler",
    "aiosqlite",
    "sqlalchemy",
    "alembic",
    "uvicorn",
    "PIL",
    "asyncio",
    "mcp",
)
"""Libraries that log only warnings and errors, because some of them would log addresses with tokens."""

MAX_BUFFERED = 1000
"""Lines that one iteration of the event loop may buffer."""

ENCODER = json.JSONEncoder(default=repr)
"""Created once: `json.dumps` would create an encoder for each line."""

ROOT_LOGGER = logging.getLogger()
LEVELS = {name.lower(): number for name, number in logging.getLevelNamesMapping().items()}


class LogMask:
    """Masks secrets in log lines: `text` in every text, `exception` in tracebacks; at first nothing."""

    text: Callable[[str], str] | None = None
    exception: Callable[[str], str] | None = None


MASK = LogMask()
"""The mask of all log lines of this process."""


def mask_secrets(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask secrets in the texts of a line; a traceback contains the texts of its exceptions."""
    if MASK.text is None or not ("exception" in line or _has_secret(line, MASK.text)):
        return line
    for name, value in line.items():
        masked = MASK.exception if name == "exception" else MASK.text
        if isinstance(value, str) and masked:
            line[name] = masked(value)
    return line


def _has_secret(line: MutableMapping[str, Any], mask: Callable[[str], str]) -> bool:
    """Return whether `mask` changes a text of the line: one search through all of them, since most lines have none."""
    texts = "\n".join([value for value in line.values() if isinstance(value, str)])
    return mask(texts) != texts


class BufferedStderr(logging.StreamHandler[Any]):
    """Writes complete lines in order, without waiting for a reader of standard error.

    Buffered lines are handed to the writer thread once per iteration of the event loop. Streams other than the standard
    ones of the process are written directly.
    """

    def __init__(self) -> None:
        super().__init__()
        self._buffer: list[str] = []
        self._flush_loop: asyncio.AbstractEventLoop | None = None
        self._writer: OutputWriter | None = None

    def setStream(self, stream: TextIO) -> TextIO | None:  # noqa: N802 - the name in logging
        """Write to `stream` from now on; return the former stream, None if it is the same."""
        former: TextIO | None = super().setStream(stream)
        self._writer = writer_for(stream)
        if self._writer:
            self._writer.notice = dropped_notice
        return former

    def emit(self, record: logging.LogRecord) -> None:
        """Write the buffered lines, then a record of the standard library."""
        try:
            self.write_immediately(self.format(record))
        except Exception:  # noqa: BLE001 - logging.Handler.emit must not raise; the error is reported
            self.handleError(record)

    def write_buffered(self, line: str) -> None:
        """Buffer a line and write it before the event loop sleeps; write it immediately when no loop runs."""
        self._buffer.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if self._flush_loop is not loop:
            self._flush_loop = loop
            loop.call_soon(self.flush)
        elif len(self._buffer) >= MAX_BUFFERED:
            self.flush()

    def write_immediately(self, line: str) -> None:
        """Write the buffered lines, then a line."""
        self._buffer.append(line)
        self.flush()

    def flush(self) -> None:
        """Hand the buffered lines to the writer. Lines that cannot be written are lost without an error."""
        with self.lock or nullcontext():
            self._flush_loop = None
            lines, self._buffer = self._buffer, []
            text = "".join(f"{line}\n" for line in lines)
            if self._writer:
                if text:
                    self._writer.put(text)
                return
            with suppress(OSError, ValueError):  # a full disk or a closed stream
                self.stream.write(text)
                super().flush()

    def close(self) -> None:
        """Wait shortly for the last lines; `logging.shutdown` calls it at the end of the process."""
        self.flush()
        if self._writer:
            self._writer.drain()
        super().close()


class LineLogger:
    """Writes rendered lines of structlog to the handler of the standard library, without a record for each line."""

    out = BufferedStderr()

    def __init__(self, name: str = "") -> None:
        self.name = name

    def buffered(self, line: str) -> None:
        """Buffer one line."""
        self.out.write_buffered(line)

    def immediately(self, line: str) -> None:
        """Write one line immediately: a warning may be the last line before the process ends."""
        self.out.write_immediately(line)

    debug = info = buffered
    warning = error = critical = immediately


def render_json(lines: LineLogger, method: str, line: MutableMapping[str, Any]) -> str:
    """Render a line as JSON; it replaces several processors of structlog with one call."""
    if line.get("exc_info"):
        line = structlog.processors.format_exc_info(lines, method, line)
    line = mask_secrets(lines, method, line)
    line.update(level=method, logger=lines.name, timestamp=f"{datetime.now(UTC).isoformat()[:-6]}Z")  # without +00:00
    return ENCODER.encode(line)


def dropped_notice(lines: int) -> str:
    """Return the rendered line that reports dropped lines, in the current style; empty below the current level."""
    line: Any = {"event": "log lines dropped", "count": lines, "hint": "the reader of this output stalled or failed"}
    with suppress(structlog.DropEvent):
        for processor in structlog.get_config()["processors"]:
            line = processor(LineLogger("boomerang.runtime"), "warning", line)
        return f"{line}\n"
    return ""


def drop_below_level(_: object, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop lines below the current level of the root logger."""
    if LEVELS[method] < ROOT_LOGGER.level:
        raise structlog.DropEvent
    return line


def configure_logging(style: Literal["console", "json"], level: str) -> None:
    """Send the lines of structlog and of the standard library's loggers to standard error in one `style`."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_secrets,
    ]
    rendering: list[Any] = [render_json] if style == "json" else [*shared, *_rendering(style)]
    structlog.configure(
        processors=[drop_below_level, *rendering],
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
    """Escape characters that break a line or control the terminal; JSON escapes them itself."""
    for name, value in event.items():
        if isinstance(value, str):
            allowed = "\n" if name == "exception" else ""
            event[name] = "".join(_escape(char) if char not in allowed else char for char in value)
    return event


def _escape(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
