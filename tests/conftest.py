"""Fixtures and time limits of every test."""

import faulthandler
import os
import sys

import pytest

if sys.dont_write_bytecode:  # each of some hundred processes would compile all modules anew
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

SLOW_TIMEOUT = 1800.0
"""Seconds for one test that is marked `slow`; the others have `timeout` in `pyproject.toml`."""


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio."""
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every slow test its own time limit, and run upgrades first: nothing long starts when the others end."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/upgrade/"))
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Cancel `faulthandler_timeout` for a test that has a time limit of its own."""
    if item.get_closest_marker("timeout"):
        faulthandler.cancel_dump_traceback_later()
