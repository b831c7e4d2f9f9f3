"""A result that a handler has stored."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A result that we keep: where it was, where it is now, its length in bytes and its SHA-256 in hexadecimal."""

    url: str
    archived_url: str
    media_type: str
    bytes: int
    sha256: str
