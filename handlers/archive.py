"""Stores a completed task's results in a directory, while their URLs at the provider are valid.

BOOMERANG_ARCHIVE_URL names the directory (`file:///srv/videos`). The first result of a task becomes `{task id}.mp4` (or
the extension of its real type), the second `{task id}-2.mp4`. A file has its final name only when it is complete: it is
written as `.{task id}-....part` in the same directory, checked, synced and renamed. Never submits anything.
"""

import hashlib
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from secrets import token_hex
from urllib.parse import urlsplit
from urllib.request import url2pathname

import anyio
import httpx
from anyio.to_thread import run_sync

from service import Artifact, Event, Handlers, Reject, Retry, Tools

from ._file_types import FILE_TYPES, HEAD, FileType, corruption_of, file_type_of

MAX_BYTES = 2 * 1024**3
CHUNK = 256 * 1024
MAX_REDIRECTS = 3
ABANDONED = 86_400.0
"""Age in seconds from which a temporary file is that of a killed process."""

DELAYS = (1, 3, 10, 30, 120, 600, 1800, 7200, 21_600, 57_600)
"""Seconds between attempts for a file that does not exist yet."""

NOT_YET = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.TOO_EARLY})
BUSY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
MAX_NOT_FOUND = 3
"""Up to this attempt "not found" is taken for "not yet"; later ones fetch a fresh URL."""

handlers = Handlers()


class UrlExpired(Exception):
    """A URL no longer serves its file; a fresh one may."""


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
    timeout=900,
    concurrency=4,
    needs=("ARCHIVE_URL",),
    check=_check,
)
async def archive(event: Event, tools: Tools) -> None:
    """Store every result of the task; safe to run twice, since a stored result is only recorded again."""
    results = _result_files(event, tools.settings)
    if not results:
        raise Reject("the task is completed, and no result with an address came with it")
    for result in results:
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
            raise _not_yet("the provider names no fresh address", tools) from error
        if fresh == result.url:
            raise _not_yet(str(error), tools) from error
    try:
        return await _download(fresh, result, tools)
    except UrlExpired as error:
        raise _not_yet(f"{error}, and so did a fresh address", tools) from error


def _not_yet(reason: str, tools: Tools) -> Retry:
    return Retry(reason, after=DELAYS[min(tools.attempt, len(DELAYS)) - 1])


async def _download(url: str, result: ResultFile, tools: Tools) -> StoredFile:
    await run_sync(_prepare_folder, result)
    part = result.folder / f".{result.stem}.{token_hex(8)}.part"
    try:
        async with _response(url, tools) as response:
            file_type, length, sha256 = await _write(response, part, result)
        path = await run_sync(_move_to_final_name, part, result, file_type)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.Path(part).unlink(missing_ok=True)
    return StoredFile(path=path, file_type=file_type, bytes=length, sha256=sha256)


def _prepare_folder(result: ResultFile) -> None:
    """Create the directory, and remove the temporary files of this result that killed processes left."""
    result.folder.mkdir(parents=True, exist_ok=True)
    for part in result.folder.glob(f".{result.stem}.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > ABANDONED:
                part.unlink()


@asynccontextmanager
async def _response(url: str, tools: Tools) -> AsyncIterator[httpx.Response]:
    """Open `url`, following at most MAX_REDIRECTS redirects; the egress guard checks each of them."""
    target = _web_url(url)
    for _ in range(MAX_REDIRECTS + 1):
        async with tools.http.stream(
            "GET", target, headers={"accept-encoding": "identity"}, timeout=30, follow_redirects=False
        ) as response:
            if not response.has_redirect_location:
                _raise_for_status(response.status_code, tools)
                yield response
                return
            target = _web_url(str(target.join(response.headers["location"])))
    raise Retry(f"the address redirects more than {MAX_REDIRECTS} times")


def _web_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise Reject("the result's address cannot be read") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise Reject("the result's address is not http or https")
    return url


def _raise_for_status(status: int, tools: Tools) -> None:
    reason = f"the result's address answered {status}"
    if status == HTTPStatus.OK:
        return
    if status in NOT_YET and tools.attempt <= MAX_NOT_FOUND:
        raise _not_yet(reason, tools)
    if status in BUSY or not 400 <= status < 500:  # noqa: PLR2004 - the client errors of HTTP
        raise Retry(reason)
    raise UrlExpired(reason)


async def _write(response: httpx.Response, part: Path, result: ResultFile) -> tuple[FileType, int, str]:
    """Write the body to `part`; return its type, its length in bytes and its SHA-256 in hexadecimal."""
    declared = _declared_length(response)
    digest, length, head = hashlib.sha256(), 0, b""
    file_type = None
    async with await anyio.open_file(part, "xb") as file:
        async for chunk in response.aiter_bytes(CHUNK):
            length += len(chunk)
            if length > MAX_BYTES:
                raise Reject(f"the result is larger than {MAX_BYTES} bytes")
            head = head if file_type else head + chunk
            file_type = file_type or (_known_type(head, result) if len(head) >= HEAD else None)
            digest.update(chunk)
            await file.write(chunk)
        await file.flush()
        await run_sync(os.fsync, file.wrapped.fileno())
    if declared not in {None, length}:
        raise Retry(f"the result was cut off after {length} of {declared} bytes")
    return file_type or _known_type(head, result), length, digest.hexdigest()


def _declared_length(response: httpx.Response) -> int | None:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Retry("the response is compressed, though the request excluded it")
    declared = response.headers.get("content-length", "")
    length = int(declared) if declared.isascii() and declared.isdigit() else None
    if length is not None and length > MAX_BYTES:
        raise Reject(f"the result is larger than {MAX_BYTES} bytes")
    return length


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
