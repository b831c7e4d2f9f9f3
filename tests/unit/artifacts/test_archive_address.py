"""Addresses of archives, and of the files in them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.archive_address import BucketAddress, FolderAddress, archive_address

S3 = BucketAddress(scheme="s3", bucket="videos", prefix="a/b")
FOLDER = FolderAddress(folder=Path("/srv/videos"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file:///srv/videos", FOLDER),
        ("file://localhost/srv/videos", FOLDER),
        ("file:///srv/with%20blank", FolderAddress(folder=Path("/srv/with blank"))),
        ("s3://videos/a/b", S3),
        ("s3://videos/a/b/", S3),
        ("gs://my_bucket.example", BucketAddress(scheme="gs", bucket="my_bucket.example")),
        ("az://container/x", BucketAddress(scheme="az", bucket="container", prefix="x")),
    ],
)
def test_addresses(text: str, expected: object) -> None:
    """A directory, or a bucket with a prefix."""
    assert archive_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/srv/videos",
        "file:videos",
        "file://host/srv",
        "file:///srv/a%0Ab",
        "s3://",
        "s3://ab",
        "s3:///prefix",
        "s3://videos//a",
        "s3://videos/../other",
        "s3://videos/./a",
        "s3://videos/a?versionId=1",
        "s3://videos/a#b",
        "s3://videos/a b",
        "s3://videos/%2e%2e/a",
        "s3://key:secret@videos/a",
        "s3://minio.example:9000/videos",
        "http://videos.example/a",
        "S3://videos",
        "s3://" + "a" * 64,
    ],
)
def test_refused_addresses(text: str) -> None:
    """Everything else is refused, with an example and without the text: it may contain a password."""
    with pytest.raises(ValueError, match=r"must be .*(s3|gs|az)://") as refusal:
        archive_address(text)
    assert "secret" not in str(refusal.value).replace("SECRET", "")


@pytest.mark.parametrize("address", [S3, FOLDER])
@pytest.mark.parametrize("name", ["task-1.mp4", "task-1-2.png", "0198_a.poster.jpg"])
def test_names_of_files(address: BucketAddress | FolderAddress, name: str) -> None:
    """The address of a file leads to its name."""
    assert address.name_of(address.url_of(name)) == name


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "file:///srv/videos/../../etc/passwd",
        "file:///srv/videos/%2e%2e/a.mp4",
        "file:///srv/videos/sub/a.mp4",
        "file:///srv/videos/.a.mp4",
        "file:///srv/videos/a.mp4/",
        "file:///srv/videos/a.mp4?x",
        "file:///srv/videosx/a.mp4",
        "file:///srv/videos//a.mp4",
        "file:///srv/videos/a%00.mp4",
        "s3://videos/a/b/../../c.mp4",
        "s3://videos/a/c.mp4",
        "s3://videos/a/b/c/d.mp4",
        "s3://other/a/b/c.mp4",
        "gs://videos/a/b/c.mp4",
        "s3://videos/a/b/",
        "",
    ],
)
def test_addresses_outside_of_the_archive(url: str) -> None:
    """An address that does not lie in the archive, or is written in another way, names no file."""
    assert (S3.name_of(url), FOLDER.name_of(url)) == (None, None)


@given(st.text())
def test_no_name_is_a_path(text: str) -> None:
    """Whatever is recorded as an address, the name has no separator and no two dots in a row."""
    for address in (S3, FOLDER):
        for url in (text, f"s3://videos/a/b/{text}", f"file:///srv/videos/{text}"):
            name = address.name_of(url)
            assert name is None or not set(name) & set("/\\\0%")
            assert name is None or ".." not in name
