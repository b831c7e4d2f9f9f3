"""What is printed: one row a measure, and the machine that it was measured on."""

import os
import platform
import re
import sqlite3
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("uvicorn", "starlette", "uvloop", "httptools", "sqlalchemy", "aiosqlite", "psycopg", "httpx")
HEADS = ("measure", "figure", "floor in the same run", "ratio", "to reach", "")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure beside its floor; `reached` is None where there is nothing to reach."""

    measure: str
    figure: str
    floor: str = ""
    ratio: str = ""
    target: str = ""
    reached: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """Return what the table shows."""
        verdict = {True: "yes", False: "NO", None: ""}[self.reached]
        return self.measure, self.figure, self.floor, self.ratio, self.target, verdict


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """A figure and its floor, measured by turns: A B A B."""

    figures: Sequence[float]
    floors: Sequence[float]

    @property
    def figure(self) -> float:
        """Return the median figure."""
        return statistics.median(self.figures)

    @property
    def floor(self) -> float:
        """Return the median floor."""
        return statistics.median(self.floors)

    @property
    def ratio(self) -> float:
        """Return the median of the ratios of neighbours, so that a noisy moment spoils one of them only."""
        return statistics.median(self._ratios)

    @property
    def spread(self) -> str:
        """Return the ratio with the lowest and the highest one."""
        return f"{self.ratio:.2f} ({min(self._ratios):.2f} to {max(self._ratios):.2f})"

    @property
    def _ratios(self) -> list[float]:
        return [figure / floor for figure, floor in zip(self.figures, self.floors, strict=True)]


def rate(value: float) -> str:
    """Return a rate as it is shown."""
    return f"{value:,.0f}/s"


def milliseconds(seconds: float) -> str:
    """Return a short time as it is shown."""
    return f"{seconds * 1000:.2f} ms"


def machine() -> str:
    """Return the day, the machine and the versions, in two lines."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    memory = int(re.findall(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[0]) / 1024**2
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {memory:.0f} GB, Linux {platform.release()}, "
        f"load {os.getloadavg()[0]:.1f}\n"
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {libraries}"
    )


def rendered(rows: Iterable[Row]) -> str:
    """Return the table, as Markdown."""
    lines = [HEADS, *(row.cells for row in rows)]
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(HEADS))]
    ruled = [lines[0], tuple("-" * width for width in widths), *lines[1:]]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
        for cells in ruled
    )
