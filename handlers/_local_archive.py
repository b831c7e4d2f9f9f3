"""Stores results in a local directory.

A file has its final name only when it is complete: it is written as `.{task id}-....part` in the same directory,
checked, synced and renamed.
"""

import hashlib
import math
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import anyio
import httpx
from anyio.to_thread import run_sync

from service import Retry, Tools

from ._file_types import FILE_TYPES, FileType, corruption_of
from ._responses import open_result
from ._result_files import ResultBody, ResultFile, StoredFile

FILE_MODE, FOLDER_MODE = 0o640, 0o750
"""Permissions of new files and of the directory; the umask may take more away."""

ABANDONED = 86_400.0
"""Age in seconds from which a temporary file is that of a killed process."""


SWEEP_INTERVAL = 3600.0
"""Seconds between two searches for them in one directory, which may hold many files."""

TEMPORARY = re.compile(r"\.[A-Za-z0-9._-]+\.[0-9a-f]+\.part")

_swept_at: dict[Path, float] = {}


@dataclass(frozen=True)
class LocalArchive:
    """The directory `folder`."""

    folder: Path

    async def existing(self, result: ResultFile) -> StoredFile | None:
        """Return the complete file that an earlier run stored, or None; a symbolic link does not count."""
        return await run_sync(self._existing, result)

    async def download(self, url: str, result: ResultFile, tools: Tools) -> StoredFile:
        """Store the file at `url`; raises Reject, Retry, UrlExpired or OSError."""
        await run_sync(self._prepare)
        part = self.folder / f".{result.stem}.{token_hex(8)}.part"
        try:
            async with open_result(url, tools) as response:
                body = ResultBody(result)
                await _write(response, part, body)
            path = await run_sync(self._move_to_final_name, part, result, body.identified())
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.Path(part).unlink(missing_ok=True)
        return StoredFile(url=path.as_uri(), file_type=body.identified(), bytes=body.length, sha256=body.sha256)

    def _existing(self, result: ResultFile) -> StoredFile | None:
        for file_type in FILE_TYPES:
            path = self.folder / result.name(file_type)
            regular = path.is_file() and not path.is_symlink()
            if regular and result.allows(file_type) and corruption_of(path, file_type) is None:
                with path.open("rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                return StoredFile(url=path.as_uri(), file_type=file_type, bytes=path.stat().st_size, sha256=sha256)
        return None

    def _prepare(self) -> None:
        """Create the directory, and now and then remove the temporary files that killed processes left in it.

        A result of which one is left is stored by its next attempt, minutes later: so those of all results are removed,
        and of thumbnails.
        """
        self.folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        now = time.monotonic()
        if now - _swept_at.get(self.folder, -math.inf) < SWEEP_INTERVAL:
            return
        _swept_at[self.folder] = now
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if TEMPORARY.fullmatch(entry.name) and time.time() - _changed_at(entry) > ABANDONED:
                        Path(entry).unlink()

    def _move_to_final_name(self, part: Path, result: ResultFile, file_type: FileType) -> Path:
        """Check the file, rename it, and sync its directory so that the name survives a power failure."""
        corruption = corruption_of(part, file_type)
        if corruption:
            raise Retry(f"the result is not what it claims to be: {corruption}")
        path = self.folder / result.name(file_type)
        part.replace(path)
        if os.name == "posix":
            directory = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        return path


async def _write(response: httpx.Response, part: Path, body: ResultBody) -> None:
    """Write the file in the body of `response` to `part`, and sync it."""
    parts = body.parts(response)
    async with await anyio.open_file(part, "xb") as file:
        await run_sync(_restrict, part)
        async for chunk in parts:
            await file.write(chunk)
        await file.flush()
        await run_sync(os.fsync, file.wrapped.fileno())


def _changed_at(entry: os.DirEntry[str]) -> float:
    return entry.stat(follow_symlinks=False).st_mtime


def _restrict(part: Path) -> None:
    """Take from a new, empty file what FILE_MODE does not grant: only owner and group may read it."""
    part.chmod(part.stat().st_mode & FILE_MODE)
