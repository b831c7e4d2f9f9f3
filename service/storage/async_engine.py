"""The asynchronous engine of SQLAlchemy Core, without the ORM that its package imports as well.

Nothing here uses the ORM; its forty modules take a fifteenth of the time of a start.
"""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import sqlalchemy.ext

PACKAGE = "sqlalchemy.ext.asyncio"

__all__ = ["AsyncConnection", "AsyncEngine", "create_async_engine"]


def _engine_module() -> ModuleType:
    """Import the module of the engine from a package that runs no `__init__`.

    Whoever imports the package afterwards gets the real one, over the same module of the engine.
    """
    if PACKAGE in sys.modules:
        return import_module(f"{PACKAGE}.engine")
    package = ModuleType(PACKAGE)
    package.__path__ = [str(Path(path, "asyncio")) for path in sqlalchemy.ext.__path__]
    sys.modules[PACKAGE] = package
    try:
        return import_module(f"{PACKAGE}.engine")
    finally:
        del sys.modules[PACKAGE]


if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
else:
    _engine = _engine_module()
    AsyncConnection, AsyncEngine = _engine.AsyncConnection, _engine.AsyncEngine
    create_async_engine = _engine.create_async_engine
