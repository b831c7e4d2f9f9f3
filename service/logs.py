"""Logs on standard error: for a person on a terminal, else one JSON object a line."""

import json
import logging
import sys
from collections.abc import MutableMapping
from contextlib import nullcontext
from typing import Any, Literal

import structlog

QUIET = ("httpx", "httpcore", "apscheduler", "aiosqlite", "sqlalchemy", "alembic", "uvicorn", "PIL", "asyncio")
"""Libraries that speak only of warnings: some of them would log addresses with tokens."""


ENCODER = json.JSONEncoder(default=repr)
"""Made once: `json.dumps` would make one for each line."""


ROOT = logging.getLogger()

LEVELS = {name: logging.getLevelName(name.upper()) for name in ("debug", "info", "warning", "error", "critical")}


class Lines:
    """Writes our own lines, already rendered, where the standard library's go: no record has to be made for each."""

    handler = logging.StreamHandler()

    def __init__(self, name: str = "") -> None:
        self.name = name

    def write(self, line: str) -> None:
        """Write one line, whole."""
        with self.handler.lock or nullcontext():
            self.handler.stream.write(f"{line}\n")
            self.handler.flush()

    debug = info = warning = error = critical = write


def only_from_level(_: object, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop lines below the level that the standard library's root has now."""
    if LEVELS[method] < ROOT.level:
        raise structlog.DropEvent
    return line


def configure_logs(style: Literal["console", "json"], level: str) -> None:
    """Send our own log lines, and those of the standard library's loggers, to standard error in one `style`."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[only_from_level, *shared, *_rendering(style)],
        logger_factory=Lines,
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        cache_logger_on_first_use=True,
    )
    Lines.handler.setStream(sys.stderr)
    Lines.handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(style)],
        )
    )
    logging.basicConfig(handlers=[Lines.handler], level=level.upper(), force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _rendering(style: str) -> list[Any]:
    if style == "console":
        return [_printable, structlog.dev.ConsoleRenderer()]
    return [structlog.processors.JSONRenderer(_as_json)]


def _as_json(line: MutableMapping[str, Any], **_: object) -> str:
    return ENCODER.encode(line)


def _printable(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what would begin a line of its own or steer the terminal; JSON escapes it by itself."""
    for name, value in event.items():
        if isinstance(value, str):
            kept = "\n" if name == "exception" else ""
            event[name] = "".join(_escaped(char) if char not in kept else char for char in value)
    return event


def _escaped(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
