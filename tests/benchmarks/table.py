"""Printed result: one row per measure, and a description of the machine."""

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
HEADINGS = ("measure", "figure", "baseline in the same run", "ratio", "target", "")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure beside its baseline; `reached` is None without a target."""

    measure: str
    figure: str
    floor: str = ""
    ratio: str = ""
    target: str = ""
    reached: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the cells of the table."""
        reached = {True: "yes", False: "NO", None: ""}[self.reached]
        return self.measure, self.figure, self.floor, self.ratio, self.target, reached


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """A figure and its baseline, measured alternately: A B A B."""

    figures: Sequence[float]
    floors: Sequence[float]

    @property
    def figure(self) -> float:
        """Return the median figure."""
        return statistics.median(self.figures)

    @property
    def floor(self) -> float:
        """Return the median baseline."""
        return statistics.median(self.floors)

    @property
    def ratio(self) -> float:
        """Return the median of the ratios of neighbours, so that a disturbance affects only one of them."""
        return statistics.median(self._ratios)

    @property
    def spread(self) -> str:
        """Return the ratio with the lowest and the highest one."""
        return f"{self.ratio:.2f} ({min(self._ratios):.2f} to {max(self._ratios):.2f})"

    @property
    def _ratios(self) -> list[float]:
        return [figure / floor for figure, floor in zip(self.figures, self.floors, strict=True)]


def rate(value: float) -> str:
    """Return a rate as text."""
    return f"{value:,.0f}/s"


def milliseconds(seconds: float) -> str:
    """Return a short time as text."""
    return f"{seconds * 1000:.2f} ms"


def machine() -> str:
    """Return the date, the machine and the versions, in two lines."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    memory = int(re.findall(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[0]) / 1024**2
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {memory:.0f} GB, Linux {platform.release()}, "
        f"load {os.getloadavg()[0]:.1f}\n"
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {libraries}"
    )


def render(rows: Iterable[Row]) -> str:
    """Return the table as Markdown."""
    lines = [HEADINGS, *(row.cells for row in rows)]
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(HEADINGS))]
    ruled = [lines[0], tuple("-" * width for width in widths), *lines[1:]]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
        for cells in ruled
    )
