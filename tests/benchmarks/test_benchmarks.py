"""Each measure runs with tiny sizes; no test asserts a speed."""

import pytest

from tests.benchmarks.__main__ import MEASURES, run_measure
from tests.benchmarks.environment import SHORT
from tests.benchmarks.table import HEADINGS, render

LONG = frozenset({"defaults", "fleet", "callbacks-postgres", "growth", "soak", "polls", "submits", "waits"})
"""Measures over PostgreSQL, whose code runs over SQLite in others, and those that take long."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in MEASURES]
)
async def test_measure_returns_its_rows(name: str) -> None:
    """Every measure returns rows with a figure, and the table shows all rows."""
    rows = await run_measure(name, SHORT, None)
    assert rows
    assert all(row.measure and row.figure for row in rows)
    table = render(rows).splitlines()
    assert len(table) == len(rows) + 2
    assert HEADINGS[0] in table[0]
