"""Run every attempt and print the table: attempt, result, verdict."""

import importlib
import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio

from tests.security.catalogue import ATTEMPTS, SHARED, Attempt, run

BLOCKED, SUCCEEDED = "blocked", "SUCCEEDED"


def load_all() -> None:
    """Import every module of attempts, so that the list is complete."""
    for path in sorted(Path(__file__).parent.glob("on_*.py")):
        importlib.import_module(f"tests.security.{path.stem}")


async def verdict(one: Attempt, home: Path) -> tuple[str, str]:
    """Return the result of an attempt, and whether it was blocked."""
    try:
        return await run(one, home), BLOCKED
    except Exception as error:  # noqa: BLE001 - every error is a row of the table
        return _gained(error), SUCCEEDED


def _gained(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


async def rows(name_part: str) -> list[tuple[str, str, str]]:
    """Run every attempt whose name contains `name_part`, and return a row for each."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, one in enumerate(ATTEMPTS):
            if name_part in one.id:
                found.append((one.id, *await verdict(one, Path(folder) / str(number))))
        for number, attempts in enumerate(SHARED):
            home = Path(folder) / f"shared-{number}"
            home.mkdir()
            for name, result in await attempts.results(home, name_part):
                if isinstance(result, Exception):
                    found.append((name, _gained(result), SUCCEEDED))
                else:
                    found.append((name, result, BLOCKED))
    return found


def lines(found: list[tuple[str, str, str]]) -> Iterator[str]:
    """Yield the table as Markdown."""
    yield "| attempt | result | verdict |"
    yield "|---|---|---|"
    for row in found:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |"
    succeeded = sum(row[2] == SUCCEEDED for row in found)
    yield f"\n{len(found)} attempts, {succeeded} succeeded."


def main(name_part: str = "") -> int:
    """Print the table; return 1 when an attempt succeeded, 2 when no attempt has that name, else 0."""
    load_all()
    logging.getLogger("uvicorn.error").addHandler(logging.NullHandler())  # it logs each shutdown
    names = [one.id for one in ATTEMPTS] + [f"{each.group}: {name}" for each in SHARED for name in each.checks]
    if not any(name_part in name for name in names):
        print(f"no attempt has {name_part!r} in its name", file=sys.stderr)  # noqa: T201 - a command for people
        return 2
    found = anyio.run(rows, name_part)
    print("\n".join(lines(found)))  # noqa: T201 - the table is what the command is for
    return int(any(row[2] == SUCCEEDED for row in found))
