"""A file that is checked while it streams is found complete exactly if the file on a disk is."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers import _stream_checks
from handlers._file_types import MAX_SAMPLES, file_type_of
from handlers._stream_checks import stream_check
from tests.support.sample_media import image, sound, video

FREE = (40).to_bytes(4, "big") + b"free" + bytes(32)
LONG_FREE = (1).to_bytes(4, "big") + b"free" + (48).to_bytes(8, "big") + bytes(32)
MANY = (28).to_bytes(4, "big") + b"moof" + b"trun" + bytes(4) + (MAX_SAMPLES + 1).to_bytes(4, "big") + bytes(8)
PACKED = (20).to_bytes(4, "big") + b"moov" + (12).to_bytes(4, "big") + b"cmov" + bytes(4)
FILES = {
    "mp4": video(),
    "sound": sound(),
    "free": video() + FREE + LONG_FREE,
    "endless": video() + bytes(4) + b"free" + bytes(50),
    "endless data": video() + bytes(4) + b"mdat" + bytes(50),
    "junk": video() + b"junk behind the end of the file",
    "short box": video() + (3).to_bytes(4, "big") + b"mdat" + bytes(30),
    "cut data": video() + (99).to_bytes(4, "big") + b"mdat" + bytes(30),
    "cut long box": video() + (1).to_bytes(4, "big") + b"mdat" + (5).to_bytes(8, "big"),
    "samples": video() + MANY,
    "packed": video() + PACKED,
    "webm": video("webm", codec="libvpx"),
    "png": image("PNG"),
    "png with a tail": image("PNG") + b"tail",
    "jpeg": image("JPEG"),
    "progressive": image("JPEG", progressive=True),
    "jpeg with a tail": image("JPEG") + b"tail",
    "webp": image("WEBP"),
}


def of_stream(data: bytes, parts: int) -> str | None:
    """Return what the check of a stream in parts of this size finds."""
    file_type = file_type_of(data)
    assert file_type is not None
    check = stream_check(file_type)
    for at in range(0, len(data), parts):
        check.feed(data[at : at + parts])
    return check.corruption()


def of_file(data: bytes, folder: Path) -> str | None:
    """Return what the check of the file on a disk finds, without opening it as a video."""
    file_type = file_type_of(data)
    assert file_type is not None
    path = folder / "file"
    path.write_bytes(data)
    with path.open("rb") as file:
        return file_type.corruption(file, len(data))


@pytest.mark.parametrize("parts", [1, 3, 7, 16, 64, 10**6])
@pytest.mark.parametrize("name", FILES)
def test_whole_files(name: str, parts: int, tmp_path: Path) -> None:
    """However a file is cut into parts, the result is that of the file."""
    assert of_stream(FILES[name], parts) == of_file(FILES[name], tmp_path)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_truncated_files(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A file that ends anywhere is found cut off exactly if the file on a disk is."""
    content = FILES[data.draw(st.sampled_from(sorted(FILES)))]
    end = data.draw(st.integers(16, len(content)))
    parts = data.draw(st.integers(1, 80))
    assert of_stream(content[:end], parts) == of_file(content[:end], tmp_path_factory.getbasetemp())


def test_index_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an index only a few bytes stay in memory, and one that is too large is refused."""
    monkeypatch.setattr(_stream_checks, "MAX_INDEX", 1000)
    check = _stream_checks.Mp4Check()
    check.feed(video() + (2000).to_bytes(4, "big") + b"moof")
    for _ in range(100):
        check.feed(bytes(10))
    assert len(check._tail) <= _stream_checks.OVERLAP
    check.feed(bytes(992))
    assert check.corruption() == f"its index declares more than {MAX_SAMPLES} samples"
