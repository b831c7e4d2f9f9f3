"""A result that a handler has stored, and how its bytes are read again."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A stored result: its address at the provider, its present address, length in bytes, SHA-256 in hexadecimal.

    `output` is its position in the output of the task, from 0; None where only `url` identifies it.
    """

    url: str
    archived_url: str
    media_type: str
    bytes: int
    sha256: str
    output: int | None = None

    @property
    def details(self) -> dict[str, Any]:
        """Return what the output of the task says about the stored copy."""
        return {
            "archived_url": self.archived_url,
            "media_type": self.media_type,
            "bytes": self.bytes,
            "sha256": self.sha256,
        }


ARTIFACT_FIELDS = frozenset(each.name for each in fields(Artifact)) - {"output"}
"""The stored fields of an artifact. The previous release refuses others; its position follows from the output."""


@dataclass(frozen=True, kw_only=True)
class StoredContent:
    """The bytes of a stored result, or of its thumbnail.

    `name` is a safe file name, `size` its length in bytes, `etag` a strong entity tag with its quotes. `sha256` is None
    where it was not recorded. `stored` is False for a thumbnail that could not be stored. `read(start, stop)` yields
    the bytes from `start` up to `stop`, in parts of at most 4 MiB; it may raise ArchiveUnavailable or ArchiveRefused.
    """

    name: str
    media_type: str
    size: int
    etag: str
    sha256: str | None
    stored: bool = True
    read: Callable[[int, int], AsyncIterator[bytes]] = field(repr=False, compare=False)
