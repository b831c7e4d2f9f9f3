"""Fixtures and time limits of every test."""

import faulthandler
import os
import sys

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.compiled_statements import share_compiled_statements

if sys.dont_write_bytecode:  # each of some hundred processes would compile all modules anew
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

share_compiled_statements()

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


ONE_PROCESS = (
    "tests/acceptance/test_dashboard.py",
    "tests/acceptance/test_dashboard_deliveries.py",
    "tests/acceptance/test_dashboard_forms.py",
    "tests/storage/test_query_plans.py",
)
"""Modules whose tests share a service and a browser, or a filled database, that take long to start."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # the package has no types
    """Gives each test to the next free process, and the tests of a module in ONE_PROCESS to the same one."""

    def _split_scope(self, nodeid: str) -> str:
        """Return what is run by one process: the module of a test, or the test alone."""
        path = nodeid.partition("::")[0]
        return path if path in ONE_PROCESS else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Distribute the tests by `Scheduling`, whatever `--dist` is."""
    return Scheduling(config, log)
