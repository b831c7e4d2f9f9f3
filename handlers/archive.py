"""Keeps a completed task's results in a directory, while the addresses at the upstream live.

BOOMERANG_ARCHIVE_URL names the directory (`file:///srv/videos`). The first result of a task becomes `{task id}.mp4` (or
what it really is), the second `{task id}-2.mp4`. A file has its final name only when it is whole: it is written under
`.{task id}-....part` beside it, checked, synced and renamed. Never submits anything.
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
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import anyio
import httpx
from anyio.to_thread import run_sync

from service import Artifact, Event, Handlers, Reject, Retry, Tools

from ._file_types import HEAD, KINDS, Kind, fault_of, kind_of

MOST_BYTES = 2 * 1024**3
CHUNK = 256 * 1024
MOST_HOPS = 3
ABANDONED = 86_400.0
"""Age in seconds from which a temporary file is that of a killed process."""

PAUSES = (1, 3, 10, 30, 120, 600, 1800, 7200, 21_600, 57_600)
"""Seconds between looks for a file that is not there yet."""

NOT_YET = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.TOO_EARLY})
BUSY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
PATIENT_LOOKS = 3
"""So many times "not found" is taken for "not yet"; after that a fresh address is asked for."""

handlers = Handlers()


class AddressExpired(Exception):
    """An address no longer serves its file; a fresh one may."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A whole file at its final place: its length in bytes and its SHA-256 in hexadecimal."""

    path: Path
    kind: Kind
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """The place of one result: `stem` is its name without the extension, `claims` what the upstream says it holds."""

    folder: Path
    stem: str
    claims: str


def folder_of(settings: Mapping[str, str]) -> Path:
    """Return the directory that ARCHIVE_URL names; ValueError with the mend when it names none."""
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
    attempts=len(PAUSES) + 1,
    timeout=900,
    concurrency=4,
    needs=("ARCHIVE_URL",),
    check=_check,
)
async def archive(event: Event, tools: Tools) -> None:
    """Keep every result of the task; one that is kept already is only recorded again, so it is safe to run twice."""
    shelves = _shelves(event, tools.settings)
    if not shelves:
        raise Reject("the task is completed, and no result with an address came with it")
    for position, shelf in shelves.items():
        kept = await run_sync(_standing, shelf) or await _bring(position, shelf, event, tools)
        await tools.results.keep(event.task.id, _artifact(event.task.output[position], kept))


def _shelves(event: Event, settings: Mapping[str, str]) -> dict[int, Shelf]:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", event.task.id):
        raise Reject("the task's id cannot be a file name")
    try:
        folder = folder_of(settings)
    except ValueError as error:
        raise Reject(str(error)) from error
    return {
        position: Shelf(
            folder=folder,
            stem=event.task.id if position == 0 else f"{event.task.id}-{position + 1}",
            claims=str(item.get("type") or ""),
        )
        for position, item in enumerate(event.task.output)
        if item.get("url")
    }


def _artifact(item: Mapping[str, Any], kept: Kept) -> Artifact:
    return Artifact(
        url=str(item["url"]),
        archived_url=kept.path.as_uri(),
        media_type=kept.kind.media_type,
        bytes=kept.bytes,
        sha256=kept.sha256,
    )


# ── what stands there already ────────────────────────────────────────────────


def _standing(shelf: Shelf) -> Kept | None:
    """Return the whole file that an earlier run left at its final place, None when there is none; no link is ours."""
    for kind in KINDS:
        path = shelf.folder / f"{shelf.stem}.{kind.name}"
        if path.is_file() and not path.is_symlink() and _fits(kind, shelf) and fault_of(path, kind) is None:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return Kept(path=path, kind=kind, bytes=path.stat().st_size, sha256=sha256)
    return None


def _fits(kind: Kind, shelf: Shelf) -> bool:
    return shelf.claims not in {"video", "image"} or shelf.claims == kind.holds


# ── bringing it ──────────────────────────────────────────────────────────────


async def _bring(position: int, shelf: Shelf, event: Event, tools: Tools) -> Kept:
    url = str(event.task.output[position]["url"])
    try:
        return await _download(url, shelf, tools)
    except AddressExpired as error:
        fresh = await _fresh_address(position, event, tools)
        if fresh == url:
            raise _not_yet(str(error), tools) from error
    try:
        return await _download(fresh, shelf, tools)
    except AddressExpired as error:
        raise _not_yet(f"{error}, and so did a fresh address", tools) from error


async def _fresh_address(position: int, event: Event, tools: Tools) -> str:
    output = await tools.results.refetch(event.task.id)
    address = output[position].get("url") if position < len(output) else None
    if not address:
        raise _not_yet("the upstream names no fresh address", tools)
    return str(address)


def _not_yet(reason: str, tools: Tools) -> Retry:
    return Retry(reason, after=PAUSES[min(tools.attempt, len(PAUSES)) - 1])


async def _download(url: str, shelf: Shelf, tools: Tools) -> Kept:
    await run_sync(_prepare, shelf)
    part = shelf.folder / f".{shelf.stem}.{token_hex(8)}.part"
    try:
        async with _answer(url, tools) as answer:
            kind, length, sha256 = await _write(answer, part, shelf)
        path = await run_sync(_put_in_place, part, shelf, kind)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.Path(part).unlink(missing_ok=True)
    return Kept(path=path, kind=kind, bytes=length, sha256=sha256)


def _prepare(shelf: Shelf) -> None:
    """Make the directory, and sweep what a killed process left there of this result."""
    shelf.folder.mkdir(parents=True, exist_ok=True)
    for part in shelf.folder.glob(f".{shelf.stem}.*.part"):
        with suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > ABANDONED:
                part.unlink()


@asynccontextmanager
async def _answer(url: str, tools: Tools) -> AsyncIterator[httpx.Response]:
    """Open `url`, following at most three redirects; each hop passes the guard of the client."""
    address = _web_address(url)
    for _ in range(MOST_HOPS + 1):
        async with tools.http.stream(
            "GET", address, headers={"accept-encoding": "identity"}, timeout=30, follow_redirects=False
        ) as answer:
            if not answer.has_redirect_location:
                _refuse_status(answer.status_code, tools)
                yield answer
                return
            address = _web_address(str(address.join(answer.headers["location"])))
    raise Retry(f"the address redirects more than {MOST_HOPS} times")


def _web_address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Reject("the result's address cannot be read") from error
    if address.scheme not in {"http", "https"} or not address.host:
        raise Reject("the result's address is not http or https")
    return address


def _refuse_status(status: int, tools: Tools) -> None:
    said = f"the result's address answered {status}"
    if status == HTTPStatus.OK:
        return
    if status in NOT_YET and tools.attempt <= PATIENT_LOOKS:
        raise _not_yet(said, tools)
    if status in BUSY or not 400 <= status < 500:  # noqa: PLR2004 - the client errors of HTTP
        raise Retry(said)
    raise AddressExpired(said)


async def _write(answer: httpx.Response, part: Path, shelf: Shelf) -> tuple[Kind, int, str]:
    declared = _declared_length(answer)
    digest, length, head = hashlib.sha256(), 0, b""
    kind = None
    async with await anyio.open_file(part, "xb") as file:
        async for chunk in answer.aiter_bytes(CHUNK):
            length += len(chunk)
            if length > MOST_BYTES:
                raise Reject(f"the result is larger than {MOST_BYTES} bytes")
            head = head if kind else head + chunk
            kind = kind or (_known_kind(head, shelf) if len(head) >= HEAD else None)
            digest.update(chunk)
            await file.write(chunk)
        await file.flush()
        await run_sync(os.fsync, file.wrapped.fileno())
    if declared not in {None, length}:
        raise Retry(f"the result was cut off after {length} of {declared} bytes")
    return kind or _known_kind(head, shelf), length, digest.hexdigest()


def _declared_length(answer: httpx.Response) -> int | None:
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise Retry("the result came compressed, though it was asked for as it is")
    declared = answer.headers.get("content-length", "")
    length = int(declared) if declared.isascii() and declared.isdigit() else None
    if length is not None and length > MOST_BYTES:
        raise Reject(f"the result is larger than {MOST_BYTES} bytes")
    return length


def _known_kind(head: bytes, shelf: Shelf) -> Kind:
    kind = kind_of(head)
    if kind is None or not _fits(kind, shelf):
        raise Retry(
            f"the result's address served {kind.name if kind else 'something else'}, not {shelf.claims or 'a file'}"
        )
    return kind


def _put_in_place(part: Path, shelf: Shelf, kind: Kind) -> Path:
    """Give the checked file its final name, durably."""
    fault = fault_of(part, kind)
    if fault:
        raise Retry(f"the result is not what it claims to be: {fault}")
    path = shelf.folder / f"{shelf.stem}.{kind.name}"
    part.replace(path)
    if os.name == "posix":
        _sync_directory(shelf.folder)
    return path


def _sync_directory(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
