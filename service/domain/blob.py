"""The blobs of a task: inline media and the caller's payload, stored apart from its row."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A blob of a task: inline media at `place` (`images.0`), or the caller's payload at `payload`."""

    place: str
    media_type: str
    sha256: str
    data: bytes = field(repr=False)
