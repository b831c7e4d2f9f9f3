"""Each measure runs through with tiny sizes; how fast it is, is not asserted anywhere."""

import pytest

from tests.benchmarks.__main__ import MEASURES, measured
from tests.benchmarks.measure_fleet import busy_cores
from tests.benchmarks.stage import SHORT
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


@pytest.mark.parametrize(
    ("processes", "share", "cores", "busy"), [(1, 0.7, 2, 0.7), (2, 0.7, 2, 1.4), (4, 1.0, 2, 2.0), (2, 0.5, 1, 0.75)]
)
def test_the_model_counts_cores_that_rest_together(processes: int, share: float, cores: int, busy: float) -> None:
    """As many as there are cores never wait for each other; more of them do only while too few of them rest."""
    assert busy_cores(processes, share, cores) == pytest.approx(busy)
