"""The service conforms to its OpenAPI document."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.storage.migrate import migrate
from tests.openapi.runner import PHASES, run
from tests.support.postgres import create_database, drop_database, running_postgres

EXAMPLES = "examples"


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Return the address of a PostgreSQL database without tasks, or None for SQLite."""
    if request.param == "sqlite":
        yield None
        return
    with running_postgres() as server:
        url = create_database(server)
        asyncio.run(migrate(url))
        yield url
        drop_database(server, url)


@pytest.mark.timeout(1800)  # thousands of requests: 16 minutes on a machine with a load of 8
@pytest.mark.parametrize(
    ("phases", "database"),
    [
        (EXAMPLES, "sqlite"),
        pytest.param(PHASES, "sqlite", marks=pytest.mark.slow),
        pytest.param(PHASES, "postgresql", marks=pytest.mark.slow),
    ],
    indirect=["database"],
)
async def test_service_conforms_to_its_document(tmp_path: Path, phases: str, database: str | None) -> None:
    """Valid data is accepted, invalid data and requests without a key are refused, and every response is declared."""
    result = await run(tmp_path, examples=8, seed=1, phases=phases, database=database)
    assert result.code == 0, result.output
    assert "passed" in result.output
    assert result.faults == []
