"""The `.env` file is read completely, or every invalid line is reported."""

from pathlib import Path

import pytest

from service.domain.errors import BadSetting
from service.runtime.config.dotenv import read_dotenv
from service.runtime.config.settings import load_settings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of a `.env` in the working directory, which does not exist yet."""
    monkeypatch.chdir(tmp_path)
    return Path(".env")


def faults(file: Path) -> list[str]:
    """Return the lines of the refusal of a file."""
    with pytest.raises(BadSetting) as refusal:
        read_dotenv(file)
    return str(refusal.value).splitlines()


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
def test_common_syntax_is_read(file: Path, text: str, found: dict[str, str]) -> None:
    """Comments, `export`, blanks, empty values, quotes over two lines and a byte order mark are valid."""
    file.write_bytes(text.encode())
    assert read_dotenv(file) == found


@pytest.mark.parametrize(
    ("text", "line", "message"),
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
def test_invalid_line_is_reported_by_its_number(file: Path, text: str, line: int, message: str) -> None:
    """The message has the file, the line number and the fix, but never the line, which may contain a key."""
    file.write_text(f"{text}\nBOOMERANG_LEASE=9s\n")
    (fault,) = faults(file)
    assert fault.startswith(f".env:{line} ")
    assert message in fault
    assert "secret" not in fault


def test_all_invalid_lines_are_reported_together(file: Path) -> None:
    """One start is enough to find them all."""
    file.write_text("A\nB=1\nboomerang_lease=9s\n")
    assert [fault.partition(" ")[0] for fault in faults(file)] == [".env:1", ".env:3"]


def test_missing_file_is_empty(file: Path) -> None:
    """Most deployments have no `.env`."""
    assert read_dotenv(file) == {}


def test_directory_dangling_link_and_other_encoding_are_refused(file: Path) -> None:
    """A path that exists and cannot be read stops the start, unlike a missing file."""
    file.mkdir()
    assert faults(file) == [
        ".env cannot be read: Is a directory; it must be a text file of NAME=value lines, or not be there"
    ]
    file.rmdir()
    file.symlink_to("nowhere")
    assert ".env cannot be read: No such file or directory" in faults(file)[0]
    file.unlink()
    file.write_bytes(b"A=1\nB=\xff\nVIDU_API_KEY=key\n")
    assert ".env cannot be read: line 2 is not UTF-8" in faults(file)[0]


def test_file_without_read_permission_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without read permission is not treated as missing."""

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert ".env cannot be read: Permission denied" in faults(file)[0]


def test_invalid_line_prevents_the_start(file: Path) -> None:
    """A setting that cannot be read must not leave its default in force."""
    file.write_text("BOOMERANG_CONFIRM=never\nBOOMERANG_LEASE 5s\n")
    with pytest.raises(BadSetting, match=r"\A\.env:2 must be NAME=value"):
        load_settings({}, dotenv=file)


@pytest.mark.parametrize(
    "content",
    [
        b"DEBUG\nA=1\n",
        b"if [ -f x ]; then\nA=1\n",
        b'B="open\nA=1\n',
        b"C=caf\xe9\nA=1\n",
        b"key: value\nA=1\n",
        b"debug=True\nA=1\n",
    ],
)
def test_file_of_another_application_stops_no_start(file: Path, content: bytes) -> None:
    """Without a known name in it no default can be left in force unnoticed; its valid lines are read."""
    file.write_bytes(content + b"\nA=1\n")
    assert read_dotenv(file)["A"] == "1"
    assert load_settings({}, dotenv=file).lease == load_settings({}).lease


def test_value_may_contain_what_begins_a_comment_elsewhere(file: Path) -> None:
    """A password with `#` is not cut off; a comment needs a blank before it (python-dotenv; huggingface_hub 4750)."""
    file.write_text('A=p#w\nB=p#w # comment\nC=#all\nD="p # w"\n')
    assert read_dotenv(file) == {"A": "p#w", "B": "p#w", "C": "#all", "D": "p # w"}
