"""The `.env` file: read whole, or told where it cannot be."""

from pathlib import Path

import pytest

from service.domain.errors import BadSetting
from service.runtime.config.dotenv import read_dotenv
from service.runtime.config.settings import load_settings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a `.env` in the working directory, which is not there yet."""
    monkeypatch.chdir(tmp_path)
    return Path(".env")


def why(file: Path) -> list[str]:
    """Return the lines of what is told about a file that cannot be read."""
    with pytest.raises(BadSetting) as told:
        read_dotenv(file)
    return str(told.value).splitlines()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("\n # a comment\n\n", {}),
        ("A=1\r\nB = 2 # a comment\r\n", {"A": "1", "B": "2"}),
        ("export A=1\nexport A\n", {"A": "1"}),
        ("A=\nB=''\n", {"A": "", "B": ""}),
        ('A="1\n2"\nB=a"b\n', {"A": "1\n2", "B": 'a"b'}),
        ("\ufeffA=1", {"A": "1"}),
        ("A='${HOME}'\nA=2", {"A": "2"}),
        ("lower=1\n", {"lower": "1"}),
    ],
)
def test_what_others_read_is_read(file: Path, text: str, found: dict[str, str]) -> None:
    """Comments, `export`, blanks, empty values, quotes over two lines and the mark of some editors are no fault."""
    file.write_bytes(text.encode())
    assert read_dotenv(file) == found


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("A=1\nsecret-key\n", 2, "has no '='; it must be NAME=value"),
        ("A=1\n\n\nBOOMERANG_UPSTREAM_KEY secret-key\n", 4, "must be NAME=value"),
        ("BOOMERANG_UPSTREAM_KEY: secret-key", 1, "must be NAME=value"),
        ('A=1\nB="secret-key\nC=2\n', 2, "with its closing quote"),
        ("B='secret-key\n", 1, "with its closing quote"),
        ('B="secret" key\n', 1, "nothing but a comment behind it"),
        ("=secret-key\n", 1, "must be NAME=value"),
        ("export BOOMERANG_UPSTREAM_KEY\n", 1, "has no '='"),
        ('A="1\n2"\n\nboomerang_upstream_key=secret-key\n', 4, "write BOOMERANG_UPSTREAM_KEY"),
        ("Boomerang_Upstream_Key=secret-key\n", 1, "write BOOMERANG_UPSTREAM_KEY"),
    ],
)
def test_a_line_that_cannot_be_read_is_told_by_its_number(file: Path, text: str, line: int, words: str) -> None:
    """The message names the file, the line and the mend, and never what stands there: it may be a key."""
    file.write_text(text)
    (told,) = why(file)
    assert told.startswith(f".env:{line} ")
    assert words in told
    assert "secret" not in told


def test_every_faulty_line_is_told_at_once(file: Path) -> None:
    """One look is enough to mend them all."""
    file.write_text("A\nB=1\nboomerang_lease=9s\n")
    assert [told.partition(" ")[0] for told in why(file)] == [".env:1", ".env:3"]


def test_a_missing_file_is_no_fault(file: Path) -> None:
    """Most places have no `.env`."""
    assert read_dotenv(file) == {}


def test_a_directory_a_dangling_link_and_another_encoding_are_told(file: Path) -> None:
    """What stands there and cannot be read is not the same as nothing; it stops the start."""
    file.mkdir()
    assert why(file) == [
        ".env cannot be read: Is a directory; it must be a text file of NAME=value lines, or not be there"
    ]
    file.rmdir()
    file.symlink_to("nowhere")
    assert ".env cannot be read: No such file or directory" in why(file)[0]
    file.unlink()
    file.write_bytes(b"A=1\nB=\xff\n")
    assert ".env cannot be read: line 2 is not UTF-8" in why(file)[0]


def test_a_file_that_is_not_ours_to_read_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of somebody else's is no missing one."""

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert ".env cannot be read: Permission denied" in why(file)[0]


def test_the_service_does_not_start_with_half_a_file(file: Path) -> None:
    """A setting that could not be read must not leave its default in force."""
    file.write_text("BOOMERANG_CONFIRM=never\nBOOMERANG_LEASE 5s\n")
    with pytest.raises(BadSetting, match=r"\A\.env:2 must be NAME=value"):
        load_settings({}, dotenv=file)
