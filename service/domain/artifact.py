"""A result that a handler has stored."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A stored result: its address at the provider, its present address, length in bytes, SHA-256 in hexadecimal."""

    url: str
    archived_url: str
    media_type: str
    bytes: int
    sha256: str
