"""Each measure runs through with tiny sizes; how fast it is, is not asserted anywhere."""

import pytest

from tests.benchmarks.__main__ import MEASURES, measured
from tests.benchmarks.environment import SHORT
from tests.benchmarks.table import HEADS, rendered


@pytest.mark.parametrize("name", MEASURES)
async def test_a_measure_yields_its_rows(name: str) -> None:
    """Every measure answers with rows that name a figure, and the table shows them all."""
    rows = await measured(name, SHORT, None)
    assert rows
    assert all(row.measure and row.figure for row in rows)
    table = rendered(rows).splitlines()
    assert len(table) == len(rows) + 2
    assert HEADS[0] in table[0]
