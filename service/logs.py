"""Logs on standard error: for a person on a terminal, else one JSON object a line."""

import logging
import logging.config
from typing import Any, Literal

import structlog

QUIET = ("httpx", "httpcore", "apscheduler", "aiosqlite", "sqlalchemy", "alembic", "uvicorn", "PIL", "asyncio")
"""Libraries that speak only of warnings: some of them would log addresses with tokens."""


def configure_logs(style: Literal["console", "json"], level: str) -> None:
    """Send our own log lines, and those of the standard library's loggers, to standard error in one `style`."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(style)],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _renderer(style: str) -> Any:
    return structlog.dev.ConsoleRenderer() if style == "console" else structlog.processors.JSONRenderer()
