"""After any sequence of operations on tasks and deliveries, both stores match the model."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from service.storage import migrate
from tests.stateful.deliveries import DeliveryMachine
from tests.support.postgres import create_database, running_postgres

TABLES = "tasks, inputs, inbox, events, deliveries, attempts, polls, run_times"


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Return a function that creates an empty SQLite file."""
    template = tmp_path_factory.mktemp("machine") / "template.db"
    asyncio.run(migrate(f"sqlite:///{template}"))

    def fresh() -> str:
        path = Path(shutil.copy(template, template.with_name("store.db")))
        for left in (f"{path}-wal", f"{path}-shm"):
            Path(left).unlink(missing_ok=True)
        return f"sqlite:///{path}"

    return fresh


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Callable[[], str]]:
    """Yield a function that empties a database of a real PostgreSQL."""
    with running_postgres() as base_url:
        url = create_database(base_url)
        asyncio.run(migrate(url))
        with psycopg.connect(url, autocommit=True) as connection:

            def fresh() -> str:
                connection.execute(f"TRUNCATE {TABLES} RESTART IDENTITY")
                return url

            yield fresh


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Return a function that gives an empty database of each kind."""
    found: Callable[[], str] = request.getfixturevalue(request.param)
    return found


def run_histories(fresh: Callable[[], str], *, examples: int, steps: int, derandomize: bool) -> None:
    """Run that many histories."""
    machine = type("Machine", (DeliveryMachine,), {"fresh": staticmethod(fresh)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=derandomize,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_store_matches_the_model(fresh: Callable[[], str], request: pytest.FixtureRequest) -> None:
    """Leases, fences, ends, events, deliveries and bills match the model in the same few dozen histories."""
    of_postgresql = "postgresql" in request.node.name  # where each step takes three times as long
    run_histories(fresh, examples=6 if of_postgresql else 12, steps=40, derandomize=True)


@pytest.mark.slow
def test_store_matches_the_model_in_many_histories(fresh: Callable[[], str]) -> None:
    """The same with many longer, random histories."""
    run_histories(fresh, examples=1500, steps=80, derandomize=False)
