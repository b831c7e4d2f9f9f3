"""Stores a completed task's results, while their URLs at the provider are valid.

BOOMERANG_ARCHIVE_URL names a directory (`file:///srv/videos`) or a bucket (`s3://bucket/prefix`, `gs://...`, `az://...`).
The first result of a task becomes `{task id}.mp4` (or the extension of its real type), the second `{task id}-2.mp4`. A
file has its final name only when it is complete. Never submits anything.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import anyio
from anyio import move_on_after

from service import Artifact, Event, Handlers, Reject, Retry, Tools

from ._bucket_archive import BucketArchive
from ._local_archive import LocalArchive
from ._responses import DELAYS as DELAYS  # noqa: PLC0414 - part of this module too
from ._responses import UrlExpired, failure_of, not_yet
from ._result_files import ResultFile, StoredFile

TIMEOUT, RESERVE = 900.0, 30.0
"""Seconds that an attempt may take, and those of them that are left for recording its end."""

BUCKETS = ("s3://", "gs://", "az://")

handlers = Handlers()


def folder_of(settings: Mapping[str, str]) -> Path:
    """Return the directory that ARCHIVE_URL names; raises ValueError with the fix when it names none."""
    parts = urlsplit(settings.get("ARCHIVE_URL", ""))
    path = Path(url2pathname(parts.path))
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not path.is_absolute():
        raise ValueError(
            "BOOMERANG_ARCHIVE_URL must name a local directory, like file:///srv/videos, or a bucket, like "
            "s3://bucket/prefix"
        )
    return path


def _archive_of(tools: Tools) -> LocalArchive | BucketArchive:
    """Return the archive that ARCHIVE_URL names; raises Reject when it names none."""
    if tools.archive is not None:
        return BucketArchive(tools.archive)
    try:
        return LocalArchive(folder_of(tools.settings))
    except ValueError as error:
        raise Reject(str(error)) from error


def _check(settings: Mapping[str, str]) -> str | None:
    if settings.get("ARCHIVE_URL", "").startswith(BUCKETS):
        return None  # the service checks it, and opens it
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
    target, results = _archive_of(tools), _result_files(event)
    if not results:
        raise Reject("the task is completed, and no result with an address came with it")
    failures: dict[int, Exception] = {}
    end = anyio.current_time() + TIMEOUT - RESERVE
    for index, result in enumerate(results):
        share = (end - anyio.current_time()) / (len(results) - index)
        try:
            with move_on_after(share) as limit:
                await _store(result, target, event, tools)
            if limit.cancelled_caught:
                failures[result.position] = Retry(f"the result did not arrive within {share:.0f} seconds")
        except Exception as error:  # noqa: BLE001 - raised below, once the other results are stored
            failures[result.position] = error
    if failures:
        raise failure_of(failures, count=len(event.task.output))


async def _store(result: ResultFile, target: LocalArchive | BucketArchive, event: Event, tools: Tools) -> None:
    """Store one result unless it is stored, and record it."""
    stored = await target.existing(result) or await _fetch(result, target, event, tools)
    artifact = Artifact(
        url=result.url,
        archived_url=stored.url,
        media_type=stored.file_type.media_type,
        bytes=stored.bytes,
        sha256=stored.sha256,
        output=result.position,
    )
    await tools.results.keep(event.task.id, artifact)


def _result_files(event: Event) -> list[ResultFile]:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", event.task.id):
        raise Reject("the task's id cannot be a file name")
    return [
        ResultFile(
            stem=event.task.id if position == 0 else f"{event.task.id}-{position + 1}",
            declared=str(item.get("type") or ""),
            position=position,
            url=str(item["url"]),
        )
        for position, item in enumerate(event.task.output)
        if item.get("url")
    ]


async def _fetch(result: ResultFile, target: LocalArchive | BucketArchive, event: Event, tools: Tools) -> StoredFile:
    """Download the result from its URL, or once from a fresh one where that has expired."""
    try:
        return await target.download(result.url, result, tools)
    except UrlExpired as error:
        output = await tools.results.refetch(event.task.id)
        fresh = str(output[result.position].get("url") or "") if result.position < len(output) else ""
        if not fresh:
            raise not_yet("the provider names no fresh address", tools) from error
        if fresh == result.url:
            raise not_yet(str(error), tools) from error
    try:
        return await target.download(fresh, result, tools)
    except UrlExpired as error:
        raise not_yet(f"{error}, and so did a fresh address", tools) from error
