"""The documents name files and tests that exist, so that a renamed one is renamed there, too."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULE = re.compile(r"`((?:[a-z0-9_]+/)+[a-z0-9_]+\.py)(?:::(\w+))?(?:\[[^`]*\])?`|`::(\w+)(?:\[[^`]*\])?`")
"""A file in a folder, a test in it, or a test alone. Names with capitals, like `NAME.py`, are placeholders."""


def named_in(document: str) -> Iterator[tuple[str, str | None]]:
    """Yield each file in backticks, and each test in it; `::test` alone belongs to the last file of its line."""
    for line in (ROOT / document).read_text().splitlines():
        path = ""
        for match in MODULE.finditer(line):
            path = match[1] or path
            yield path, match[2] or match[3]


def missing(document: str, *folders: str) -> list[str]:
    """Return what `document` names and no file in one of the `folders` has."""
    wrong = []
    for path, test in named_in(document):
        file = next((found for folder in folders if (found := ROOT / folder / path).is_file()), None)
        if file is None or (test and not re.search(rf"def {test}\b", file.read_text())):
            wrong.append(f"{path}::{test}" if test else path)
    return wrong


def test_tests_named_in_the_table_of_cases_exist() -> None:
    """Every file and test in `tests/README.md` exists."""
    assert missing("tests/README.md", ".", "tests") == []


def test_modules_named_in_the_architecture_exist() -> None:
    """Every module in `service/README.md` exists, and more than a hundred are named there."""
    assert missing("service/README.md", "service", ".") == []
    assert len(set(named_in("service/README.md"))) > 100
