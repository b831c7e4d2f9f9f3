"""Addresses of archives, and of the files in them. Only computes."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

BUCKET_SCHEMES = ("s3", "gs", "az")
"""Amazon S3 and compatible stores, Google Cloud Storage, Azure Blob Storage."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,70}(\.[a-z0-9]{1,10}){1,2}")
"""The name of a file in an archive: it is no path, and never hidden."""

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_SEGMENT = re.compile(r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._=+@,-]{1,200}")
_MAX_PREFIX = 500
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, kw_only=True)
class BucketAddress:
    """The address of an archive in an object store: a bucket (with Azure: a container), and a prefix of its keys."""

    scheme: str
    bucket: str
    prefix: str = ""

    def url_of(self, name: str) -> str:
        """Return the address of the file `name`."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}{'/' if self.prefix else ''}{name}"

    def name_of(self, url: str) -> str | None:
        """Return the name of the file at `url`, None for an address that is not one of this archive."""
        name = url.rpartition("/")[2]
        return name if NAME.fullmatch(name) and url == self.url_of(name) else None


@dataclass(frozen=True, kw_only=True)
class FolderAddress:
    """The address of an archive in a local directory."""

    folder: Path

    def url_of(self, name: str) -> str:
        """Return the address of the file `name`."""
        return (self.folder / name).as_uri()

    def name_of(self, url: str) -> str | None:
        """Return the name of the file at `url`, None for an address that is not one of this archive."""
        name = url.rpartition("/")[2]
        return name if NAME.fullmatch(name) and url == self.url_of(name) else None


ArchiveAddress = BucketAddress | FolderAddress


def archive_address(text: str) -> ArchiveAddress:
    """Return what an address like `file:///srv/videos` or `s3://bucket/prefix` names; raises ValueError with the fix.

    The message never repeats the text, which may contain a password.
    """
    scheme = text.partition("://")[0]
    return _bucket_address(scheme, text) if scheme in BUCKET_SCHEMES else _folder_address(text)


def _folder_address(text: str) -> FolderAddress:
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    local = parts.scheme == "file" and parts.netloc in {"", "localhost"}
    if not local or not unquote(parts.path).startswith("/") or _CONTROL.search(unquote(text)):
        raise ValueError(
            "must be the address of a directory, like file:///srv/videos, or of a bucket, like s3://bucket/prefix, "
            "gs://bucket/prefix or az://container/prefix"
        )
    return FolderAddress(folder=Path(url2pathname(parts.path)))


def _bucket_address(scheme: str, text: str) -> BucketAddress:
    bucket, _, prefix = text.removeprefix(f"{scheme}://").rstrip("/").partition("/")
    if "@" in bucket or ":" in bucket:
        raise ValueError(
            f"must be like {scheme}://bucket/prefix: credentials and endpoints are settings of their own "
            "(BOOMERANG_ARCHIVE_ACCESS_KEY, BOOMERANG_ARCHIVE_SECRET_KEY, BOOMERANG_ARCHIVE_ENDPOINT)"
        )
    segments = prefix.split("/") if prefix else []
    if not _BUCKET.fullmatch(bucket) or len(prefix) > _MAX_PREFIX or not all(map(_SEGMENT.fullmatch, segments)):
        raise ValueError(
            f"must be like {scheme}://bucket/prefix, with a bucket of 3 to 63 letters, digits, '.', '-' and '_', and "
            "a prefix of plain names with '/' between"
        )
    return BucketAddress(scheme=scheme, bucket=bucket, prefix=prefix)
