"""The settings in README.md and `.env.example` agree with the model of the settings."""

import re
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from service.runtime.config.dotenv import PREFIX
from service.runtime.config.settings import CLIENT_NAMES, NAMES, UPSTREAMS, Settings, load_settings

ROOT = Path(__file__).resolve().parents[4]
EXAMPLES_ONLY = {"UPSTREAM_URL": UPSTREAMS["vtrix"], "LOG_FORMAT": "json"}
"""Settings without one fixed default, and what `.env.example` shows for them."""


def field_of(name: str) -> FieldInfo:
    """Return the field of the model that the setting `name` sets."""
    return Settings.model_fields[name.lower()]


def default_text(name: str) -> str | None:
    """Return the text of a setting's fixed default, None if it has none or another variable selects it."""
    default = field_of(name).default
    return default if isinstance(default, str) and name != "LOG_FORMAT" else None


def printed_table() -> str:
    """Return the settings as a markdown table with the columns name, default and meaning."""
    rows = [
        f"| {name} | {f'`{text}`' if (text := default_text(name)) else 'none'} | {field_of(name).description} |"
        for name in NAMES
    ]
    return "\n".join(["| name | default | meaning |", "|---|---|---|", *rows])


def cells(line: str) -> list[str]:
    """Return the cells of one row of a markdown table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def defaults_in(cell: str, count: int) -> list[str]:
    """Return the defaults of `count` settings in one cell: separated by `;`, or by commas outside of backticks."""
    if count == 1:
        return [cell]
    parts = cell.split(";")
    return [part.strip() for part in (parts if len(parts) == count else re.findall(r"(?:`[^`]*`|[^,`])+", cell))]


def settings_table(markdown: str) -> list[tuple[str, str]]:
    """Return each name of the table below the heading "Settings" with the text of its default."""
    section = re.split(r"^#+ Settings\n", markdown, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, flags=re.MULTILINE)[0]
    rows = [cells(line) for line in section.splitlines() if line.startswith("|")]
    assert rows[0] == ["name", "default", "meaning"]
    found: list[tuple[str, str]] = []
    for names, defaults, _ in rows[2:]:
        each = [name.strip(" `").removeprefix(PREFIX) for name in names.split(",")]
        texts = defaults_in(defaults, len(each))
        assert len(texts) == len(each), names
        found += zip(each, texts, strict=True)
    return found


def assert_agrees(table: list[tuple[str, str]]) -> None:
    """Assert that a table lists every setting once, nothing else, and the default of each."""
    listed = [name for name, _ in table]
    assert sorted(listed) == sorted(NAMES)
    for name, text in table:
        default = default_text(name)
        assert text == f"`{default}`" if default else not re.fullmatch("`[^`]*`", text), name


def test_readme_lists_every_setting_with_its_default() -> None:
    """The table of the README has each setting once, and its fixed default in backticks."""
    assert_agrees(settings_table((ROOT / "README.md").read_text("utf-8")))


def test_printed_table_agrees_with_the_model() -> None:
    """The table that is printed from the model passes the check of the README's table."""
    assert_agrees(settings_table(f"# Settings\n\n{printed_table()}\n\n## Deploy\n"))


def test_missing_unknown_or_wrong_row_is_found() -> None:
    """A row that is left out, a name that is not a setting and another default each fail the check."""
    table = settings_table(f"# Settings\n{printed_table()}\n")
    wrong = [(name, "`61s`" if name == "LEASE" else text) for name, text in table]
    for changed in (table[1:], [*table, ("LEESE", "none")], wrong):
        with pytest.raises(AssertionError):
            assert_agrees(changed)


def test_sample_file_lists_every_setting_with_its_default() -> None:
    """`.env.example` has each setting and those of the client commands once, and the fixed default of each."""
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    rows = [line.removeprefix(f"#{PREFIX}").partition("=") for line in lines if line.startswith(f"#{PREFIX}")]
    shown = {name: value for name, _, value in rows}
    assert sorted(name for name, _, _ in rows) == sorted([*NAMES, *CLIENT_NAMES])
    for name in NAMES:
        expected = default_text(name) or EXAMPLES_ONLY.get(name)
        assert expected is None or shown[name] == expected, name


def test_every_default_is_valid_and_every_setting_is_described() -> None:
    """The text of each default is a valid value of its setting."""
    defaults = {PREFIX + name: text for name in NAMES if (text := default_text(name))}
    assert load_settings(defaults).model_dump(exclude={"present"}) == load_settings({}).model_dump(exclude={"present"})
    assert all(field_of(name).description for name in NAMES)
