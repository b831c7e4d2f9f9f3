"""An archive in a local directory. Symbolic links in it are not followed."""

import glob
import os
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from stat import S_ISREG

from anyio.to_thread import run_sync

from service.artifacts.ports import FileInfo, Method, ReadAt
from service.domain.archive_address import FolderAddress
from service.domain.errors import ArchiveUnavailable

CHUNK = 256 * 1024
FILE_MODE, FOLDER_MODE = 0o640, 0o750
"""Permissions of new files and of the directory; the umask may take more away."""


class LocalArchive:
    """Implements `Archive`."""

    def __init__(self, address: FolderAddress) -> None:
        self.address = address

    async def info(self, name: str) -> FileInfo | None:
        """Return length and version of a regular file, None if there is none."""
        try:
            found = await run_sync(self._path(name).lstat)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ArchiveUnavailable(f"the archive cannot be read: {error.strerror}") from error
        return FileInfo(bytes=found.st_size, version=f"{found.st_mtime_ns:x}") if S_ISREG(found.st_mode) else None

    async def read(self, name: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to `stop`; raises ArchiveUnavailable if the file is shorter."""
        try:
            descriptor = await run_sync(_open, self._path(name))
            try:
                while start < stop:
                    data = await run_sync(os.pread, descriptor, min(CHUNK, stop - start), start)
                    if not data:
                        raise ArchiveUnavailable("the stored file has become shorter")
                    start += len(data)
                    yield data
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ArchiveUnavailable(f"the archive cannot be read: {error.strerror}") from error

    @contextmanager
    def blocking_reader(self, name: str) -> Iterator[ReadAt]:
        """Open the file `name` for a thread."""
        descriptor = _open(self._path(name))
        try:
            yield lambda start, stop: os.pread(descriptor, max(0, stop - start), start)
        finally:
            os.close(descriptor)

    async def write_small(self, name: str, data: bytes, media_type: str) -> None:  # noqa: ARG002 - the name has it
        """Store a file under its final name only when it is complete."""
        try:
            await run_sync(_write, self._path(name), data)
        except OSError as error:
            raise ArchiveUnavailable(f"the archive cannot be written: {error.strerror}") from error

    async def delete(self, names: Collection[str]) -> None:
        """Delete these files, and what killed processes left of them; those that do not exist are no error."""
        try:
            for name in names:
                await run_sync(_delete, self._path(name))
        except OSError as error:
            raise ArchiveUnavailable(f"the archive cannot be written: {error.strerror}") from error

    async def sign(self, name: str, method: Method, expires_in: timedelta) -> None:
        """Return None: a directory signs nothing."""

    def _path(self, name: str) -> Path:
        return self.address.folder / name


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))


def _delete(path: Path) -> None:
    path.unlink(missing_ok=True)
    for part in path.parent.glob(f".{glob.escape(path.stem)}.*.part"):
        part.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{token_hex(8)}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), FILE_MODE)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(data)
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
