"""One result of a task on its way into the archive: its name, its declared type, and what its bytes turn out to be."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx

from service import Reject, Retry

from ._file_types import HEAD, FileType, file_type_of
from ._responses import body_parts

MAX_BYTES = 2 * 1024**3
CHUNK = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A complete file under its final address: its length in bytes and its SHA-256 in hexadecimal."""

    url: str
    file_type: FileType
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ResultFile:
    """Where one result is stored: `stem` is its name without the extension, `declared` its type in the task's output.

    `position` and `url` are those of the result in the task's output.
    """

    stem: str
    declared: str
    position: int
    url: str

    def allows(self, file_type: FileType) -> bool:
        """Return whether a file of this type matches the declaration of the provider."""
        return self.declared not in {"video", "image"} or self.declared == file_type.holds

    def name(self, file_type: FileType) -> str:
        """Return the name of the file, if it has this type."""
        return f"{self.stem}.{file_type.name}"


class ResultBody:
    """The file in the body of a response, which is identified, counted and hashed while it streams."""

    def __init__(self, result: ResultFile) -> None:
        self.length = 0
        self.file_type: FileType | None = None
        self._result = result
        self._digest = hashlib.sha256()
        self._head = b""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes so far, in hexadecimal."""
        return self._digest.hexdigest()

    async def parts(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield the file in parts of at most CHUNK bytes; at the end its type is known.

        Raises Reject for a file that is too large, Retry for one of another type than declared.
        """
        declared = response.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared) > MAX_BYTES:
            raise Reject(f"the result is larger than {MAX_BYTES} bytes")
        async for part in body_parts(response, CHUNK):
            self.length += len(part)
            if self.length > MAX_BYTES:
                raise Reject(f"the result is larger than {MAX_BYTES} bytes")
            if self.file_type is None:
                self._head += part
                self.file_type = self._identified() if len(self._head) >= HEAD else None
            self._digest.update(part)
            yield part
        if self.file_type is None:
            self.file_type = self._identified()

    def identified(self) -> FileType:
        """Return the type once the file is complete."""
        return self.file_type or self._identified()

    def _identified(self) -> FileType:
        file_type = file_type_of(self._head)
        if file_type is None or not self._result.allows(file_type):
            served = file_type.name if file_type else "something else"
            raise Retry(f"the result's address served {served}, not {self._result.declared or 'a file'}")
        return file_type
