"""Forms with files: the fields and files of a `multipart/form-data` body that is in memory."""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from pybase64 import b64encode_as_string
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.domain.errors import UnreadableBody

MULTIPART_TYPE = "multipart/form-data"
MAX_FILES = 32
MAX_FIELDS = 200
CHUNK = 256 * 1024
MAX_KEPT = 8 * 1024 * 1024
"""Characters of data URIs that a form with faults contains, so that their files need not be chosen again."""

KEPT, KEPT_FROM = "_kept", "_from"
"""Ends of the names of fields: media of the last try, each a quoted name, `|` and a data URI, and of the task `from`
by their places."""

_PLAIN_TYPE = re.compile(r"[a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,80}")


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file of a form: its name and media type as the browser gives them, and its content."""

    name: str
    media_type: str
    data: bytes = field(repr=False)

    def data_uri(self) -> str:
        """Return the file as a base64 data URI."""
        return f"data:{self.media_type};base64,{b64encode_as_string(self.data)}"


class _Parser(MultiPartParser):
    """Keeps files in memory: the size of the body is limited already."""

    spool_max_size = 64 * 1024 * 1024


async def read_multipart(headers: Headers, body: bytes) -> tuple[list[tuple[str, str]], list[tuple[str, Upload]]]:
    """Return the fields and the files of a form, each with its name; file inputs without a file are left out.

    Raises UnreadableBody for a body that is cut off or malformed, and for too many fields or files.
    """
    parser = _Parser(headers, _chunks(body), max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=len(body))
    try:
        found = await parser.parse()
    except MultiPartException as error:
        raise UnreadableBody(f"the form cannot be read: {error.message}") from error
    pairs: list[tuple[str, str]] = []
    files: list[tuple[str, Upload]] = []
    try:
        for name, value in found.multi_items():
            if not isinstance(value, UploadFile):
                pairs.append((name, value))
            elif value.filename or value.size:
                files.append((name, await _upload(value)))
    finally:
        await found.close()
    return pairs, files


async def _upload(file: UploadFile) -> Upload:
    media_type = (file.content_type or "").split(";")[0].strip().lower()
    known = media_type if _PLAIN_TYPE.fullmatch(media_type) else "application/octet-stream"
    return Upload(name=(file.filename or "")[:200], media_type=known, data=await file.read())


async def _chunks(body: bytes) -> AsyncGenerator[bytes, None]:
    for begin in range(0, len(body), CHUNK):
        yield body[begin : begin + CHUNK]
