"""Plays every attempt and prints the table: attempt, what happened, verdict."""

import importlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio

from tests.security.catalogue import ATTEMPTS, Attempt, play

HELD, HOLE = "held", "HOLE"


def load_all() -> None:
    """Import every module of attempts, so that the list is whole."""
    for path in sorted(Path(__file__).parent.glob("on_*.py")):
        importlib.import_module(f"tests.security.{path.stem}")


async def verdict(one: Attempt, home: Path) -> tuple[str, str]:
    """Return what happened, and whether the service held."""
    try:
        return await play(one, home), HELD
    except Exception as error:  # noqa: BLE001 - a row of the table, whatever went wrong
        return f"{type(error).__name__}: {error}".splitlines()[0][:200], HOLE


async def rows(wanted: str) -> list[tuple[str, str, str]]:
    """Play every attempt whose name holds `wanted`, and return a row for each."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, one in enumerate(ATTEMPTS):
            if wanted in one.id:
                found.append((one.id, *await verdict(one, Path(folder) / str(number))))
    return found


def lines(found: list[tuple[str, str, str]]) -> Iterator[str]:
    """Yield the table as Markdown."""
    yield "| attempt | what happened | verdict |"
    yield "|---|---|---|"
    for row in found:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    through = sum(row[2] == HOLE for row in found)
    yield f"\n{len(found)} attempts, {through} got through."


def main(wanted: str = "") -> int:
    """Print the table; return 1 when an attempt got through, 0 otherwise."""
    load_all()
    logging.getLogger("uvicorn.error").addHandler(logging.NullHandler())  # it tells how it stops, each time
    found = anyio.run(rows, wanted)
    print("\n".join(lines(found)))  # noqa: T201 - the table is what the command is for
    return int(any(row[2] == HOLE for row in found))
