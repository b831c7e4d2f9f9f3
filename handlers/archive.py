"""Stores a completed task's results in a directory, while their URLs at the provider are valid.

BOOMERANG_ARCHIVE_URL names the directory (`file:///srv/videos`). The first result of a task becomes `{task id}.mp4` (or
the extension of its real type), the second `{task id}-2.mp4`. A file has its final name only when it is complete: it is
written as `.{task id}-....part` in the same directory, checked, synced and renamed. Never submits anything.
"""

import hashlib
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit
from urllib.request import url2pathname

import anyio
import httpx
from anyio import move_on_after
from anyio.to_thread import run_sync

from service import Artifact, Event, Handlers, Reject, Retry, Tools

from ._file_types import FILE_TYPES, HEAD, FileType, corruption_of, file_type_of
from ._responses import DELAYS as DELAYS  # noqa: PLC0414 - part of this module too
from ._responses import UrlExpired, body_parts, failure_of, not_yet, open_result

MAX_BYTES = 2 * 1024**3
CHUNK = 256 * 1024
FILE_MODE, FOLDER_MODE = 0o640, 0o750
"""Permissions of new files and of the directory; the umask may take more away."""

TIMEOUT, RESERVE = 900.0, 30.0
"""Seconds that an attempt may take, and those of them that are left for recording its end."""

ABANDONED = 86_400.0
"""Age in seconds from which a temporary file is that of a killed process."""

handlers = Handlers()


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A complete file under its final name: its length in bytes and its SHA-256 in hexadecimal."""

    path: Path
    file_type: FileType
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ResultFile:
    """Where one result is stored: `stem` is its name without the extension, `declared` its type in the task's output.

    `position` and `url` are those of the result in the task's output.
    """

    folder: Path
    stem: str
    declared: str
    position: int
    url: str

    def allows(self, file_type: FileType) -> bool:
        """Return whether a file of this type matches the declaration of the provider."""
        return self.declared not in {"video", "image"} or self.declared == file_type.holds


def folder_of(settings: Mapping[str, str]) -> Path:
    """Return the directory that ARCHIVE_URL names; raises ValueError with the fix when it names none."""
    parts = urlsplit(settings.get("ARCHIVE_URL", ""))
    path = Path(url2pathname(parts.path))
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not path.is_absolute():
        raise ValueError("BOOMERANG_ARCHIVE_URL must name a local directory, like file:///srv/videos")
    return path


def _check(settings: Mapping[str, str]) -> str | None:
    try:
        folder_of(settings)
    except ValueError as error:
        return str(error)
    return None


@handlers.on(
    "task.completed",
    name="archive",
    attempts=len(DELAYS) + 1,
    timeout=TIMEOUT,
    concurrency=4,
    needs=("ARCHIVE_URL",),
    check=_check,
)
async def archive(event: Event, tools: Tools) -> None:
    """Store every result of the task; safe to run twice, since a stored result is only recorded again.

    Each result is stored and recorded by itself, in its share of the time: one that fails does not keep the others from
    it, and a later attempt downloads only what is missing.
    """
    results = _result_files(event, tools.settings)
    if not results:
        raise Reject("the task is completed, and no result with an address came with it")
    failures: dict[int, Exception] = {}
    end = anyio.current_time() + TIMEOUT - RESERVE
    for index, result in enumerate(results):
        share = (end - anyio.current_time()) / (len(results) - index)
        try:
            with move_on_after(share) as limit:
                await _store(result, event, tools)
            if limit.cancelled_caught:
                failures[result.position] = Retry(f"the result did not arrive within {share:.0f} seconds")
        except Exception as error:  # noqa: BLE001 - raised below, once the other results are stored
            failures[result.position] = error
    if failures:
        raise failure_of(failures, count=len(event.task.output))


async def _store(result: ResultFile, event: Event, tools: Tools) -> None:
    """Store one result unless it is stored, and record it."""
    stored = await run_sync(_existing, result) or await _fetch(result, event, tools)
    artifact = Artifact(
        url=result.url,
        archived_url=stored.path.as_uri(),
        media_type=stored.file_type.media_type,
        bytes=stored.bytes,
        sha256=stored.sha256,
    )
    await tools.results.keep(event.task.id, artifact)


def _result_files(event: Event, settings: Mapping[str, str]) -> list[ResultFile]:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", event.task.id):
        raise Reject("the task's id cannot be a file name")
    try:
        folder = folder_of(settings)
    except ValueError as error:
        raise Reject(str(error)) from error
    return [
        ResultFile(
            folder=folder,
            stem=event.task.id if position == 0 else f"{event.task.id}-{position + 1}",
            declared=str(item.get("type") or ""),
            position=position,
            url=str(item["url"]),
        )
        for position, item in enumerate(event.task.output)
        if item.get("url")
    ]


def _existing(result: ResultFile) -> StoredFile | None:
    """Return the complete file that an earlier run stored, or None; a symbolic link does not count."""
    for file_type in FILE_TYPES:
        path = result.folder / f"{result.stem}.{file_type.name}"
        regular = path.is_file() and not path.is_symlink()
        if regular and result.allows(file_type) and corruption_of(path, file_type) is None:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return StoredFile(path=path, file_type=file_type, bytes=path.stat().st_size, sha256=sha256)
    return None


# ── fetching ─────────────────────────────────────────────────────────────────


async def _fetch(result: ResultFile, event: Event, tools: Tools) -> StoredFile:
    """Download the result from its URL, or once from a fresh one where that has expired."""
    try:
        return await _download(result.url, result, tools)
    except UrlExpired as error:
        output = await tools.results.refetch(event.task.id)
        fresh = str(output[result.position].get("url") or "") if result.position < len(output) else ""
        if not fresh:
            raise not_yet("the provider names no fresh address", tools) from error
        if fresh == result.url:
            raise not_yet(str(error), tools) from error
    try:
        return await _download(fresh, result, tools)
    except UrlExpired as error:
        raise not_yet(f"{error}, and so did a fresh address", tools) from error


async def _download(url: str, result: ResultFile, tools: Tools) -> StoredFile:
    await run_sync(_prepare_folder, result)
    part = result.folder / f".{result.stem}.{token_hex(8)}.part"
    try:
        async with open_result(url, tools) as response:
            file_type, length, sha256 = await _write(response, part, result)
        path = await run_sync(_move_to_final_name, part, result, file_type)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.Path(part).unlink(missing_ok=True)
    return StoredFile(path=path, file_type=file_type, bytes=length, sha256=sha256)


def _prepare_folder(result: ResultFile) -> None:
    """Create the directory, and remove the temporary files of this result that killed processes left."""
    result.folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    for part in result.folder.glob(f".{result.stem}.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > ABANDONED:
                part.unlink()


async def _write(response: httpx.Response, part: Path, result: ResultFile) -> tuple[FileType, int, str]:
    """Write the file in the body to `part`; return its type, its length in bytes and its SHA-256 in hexadecimal."""
    declared = response.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared) > MAX_BYTES:
        raise Reject(f"the result is larger than {MAX_BYTES} bytes")
    digest, length, head = hashlib.sha256(), 0, b""
    file_type = None
    async with await anyio.open_file(part, "xb") as file:
        await run_sync(_restrict, part)
        async for chunk in body_parts(response, CHUNK):
            length += len(chunk)
            if length > MAX_BYTES:
                raise Reject(f"the result is larger than {MAX_BYTES} bytes")
            head = head if file_type else head + chunk
            file_type = file_type or (_known_type(head, result) if len(head) >= HEAD else None)
            digest.update(chunk)
            await file.write(chunk)
        await file.flush()
        await run_sync(os.fsync, file.wrapped.fileno())
    return file_type or _known_type(head, result), length, digest.hexdigest()


def _restrict(part: Path) -> None:
    """Take from a new, empty file what FILE_MODE does not grant: only owner and group may read it."""
    part.chmod(part.stat().st_mode & FILE_MODE)


def _known_type(head: bytes, result: ResultFile) -> FileType:
    file_type = file_type_of(head)
    if file_type is None or not result.allows(file_type):
        served = file_type.name if file_type else "something else"
        raise Retry(f"the result's address served {served}, not {result.declared or 'a file'}")
    return file_type


def _move_to_final_name(part: Path, result: ResultFile, file_type: FileType) -> Path:
    """Check the file, rename it, and sync its directory so that the name survives a power failure."""
    corruption = corruption_of(part, file_type)
    if corruption:
        raise Retry(f"the result is not what it claims to be: {corruption}")
    path = result.folder / f"{result.stem}.{file_type.name}"
    part.replace(path)
    if os.name == "posix":
        directory = os.open(result.folder, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    return path
