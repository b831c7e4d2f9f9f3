"""Read a `.env` file completely or not at all: a skipped line would leave a default in force unnoticed.

python-dotenv parses the lines: comments, `export `, quotes over several lines. A message never repeats a line, because
the line may contain a key. A file without any of our names belongs to another application: its faults are ignored.
"""

from io import StringIO
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from service.domain.errors import BadSetting

PREFIX = "BOOMERANG_"
"""Prefix of the names of all settings."""

OWN_NAMES = (PREFIX, "VTRIX_API_KEY", "VIDU_API_KEY")
"""Texts of which a file for this service contains one, in any case."""


def read_dotenv(path: Path) -> dict[str, str]:
    """Return the names and values of the file at `path`; empty when there is no file.

    Raises BadSetting with one line for each invalid line of the file, or for a file that cannot be read.
    """
    found: dict[str, str] = {}
    faults: list[str] = []
    text = _text(path)
    for binding in parse_stream(StringIO(text)):
        if fault := _fault(binding, found):
            faults.append(f"{path}:{_line(binding)} {fault}")
        elif binding.key is not None and binding.value is not None:
            found[binding.key] = binding.value
    if faults and _is_for_service(text):
        raise BadSetting("\n".join(faults))
    return found


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            return ""
        raise _unreadable(path, str(error.strerror)) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not _is_for_service(text := content.decode("utf-8-sig", "replace")):
            return text
        line = content.count(b"\n", 0, error.start) + 1
        raise _unreadable(path, f"line {line} is not UTF-8") from None


def _is_for_service(text: str) -> bool:
    return any(name in text.upper() for name in OWN_NAMES)


def _unreadable(path: Path, reason: str) -> BadSetting:
    return BadSetting(f"{path} cannot be read: {reason}; it must be a text file of NAME=value lines, or not be there")


def _fault(binding: Binding, found: dict[str, str]) -> str | None:
    """Return why a line is invalid and how to fix it, or None. `export NAME` after its value is valid, as in shells."""
    if binding.error:
        return "must be NAME=value, a quoted value with its closing quote and nothing but a comment behind it"
    if binding.key is None:
        return None
    if binding.value is None and binding.key not in found:
        return "has no '='; it must be NAME=value, or begin with # as a comment"
    name = binding.key.upper()
    if name.startswith(PREFIX) and name != binding.key:
        return f"has a name that is not in capitals; write {name}"
    return None


def _line(binding: Binding) -> int:
    """Return the number of the line where a binding begins; python-dotenv counts the empty lines before it."""
    text = binding.original.string
    empty = text[: len(text) - len(text.lstrip())]
    return binding.original.line + empty.count("\n")
