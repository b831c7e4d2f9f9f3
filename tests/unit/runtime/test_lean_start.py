"""What a process does not import before its first answer: it would lengthen every start, and is used later or never."""

import asyncio
from pathlib import Path

from service.storage import migrate
from tests.support.service_process import output_of

PROGRAM = """
import asyncio, sys
from service.cli.lean_imports import import_without_terminal_libraries
import_without_terminal_libraries()
from service.cli.server import operator_settings
from service.runtime.bootstrap import build_application
from service.runtime.config.required_settings import start_checks
from service.runtime.process import prepare_storage
from service.runtime.web import build_app

async def start():
    settings = await prepare_storage(operator_settings(checks=start_checks(host="127.0.0.1")))
    async with build_application(settings) as application:
        build_app(application, "all", asyncio.Event(), lambda: None)
        print(*sys.modules)

asyncio.run(start())
import rich.console, sqlalchemy.ext.asyncio, sqlalchemy.orm
"""

NOT_FOR_A_START = {
    *("rich", "pygments", "jinja2", "prometheus_client", "mcp"),
    *("alembic", "sqlalchemy.orm", "psycopg", "apscheduler"),
    *("av", "PIL", "telegram", "slack_sdk", "aiohttp", "nats", "redis", "aio_pika", "aiobotocore", "obstore"),
    *("service.dashboard", "service.api.videos", "service.api.vtrix_tasks", "service.api.mcp_tools"),
    *("service.api.schemas", "service.api.request_schemas", "service.api.openapi.document", "service.sandbox"),
}


def test_start_imports_only_what_it_needs(tmp_path: Path) -> None:
    """A process over a migrated database is built without what only some pages, handlers or commands use.

    Libraries that it imports in part can be imported in whole afterwards.
    """
    asyncio.run(migrate(f"sqlite:///{tmp_path / 'boomerang.db'}"))
    loaded = modules_of(PROGRAM, tmp_path)
    assert "service.api.app" in loaded
    assert sorted(NOT_FOR_A_START & loaded) == []


def test_sandbox_imports_nothing_for_terminals(tmp_path: Path) -> None:
    """The command of the sandbox imports neither Rich nor Pygments, though httpx would."""
    loaded = modules_of("import sys, service.cli.sandbox; print(*sys.modules)", tmp_path)
    assert "httpx" in loaded
    assert sorted({"rich", "pygments"} & loaded) == []


def modules_of(program: str, directory: Path) -> set[str]:
    """Return the modules that a new process prints that runs `program` in `directory`."""
    return set(output_of(program, directory).split())
