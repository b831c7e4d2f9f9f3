"""Reads the bytes of a callback: JSON, also compressed, in a form, or behind a byte-order mark.

Providers and the gateways before them differ in how they send a callback. The body itself is never trusted more for it.
"""

import re
import zlib
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qsl

from service.domain.errors import BodyTooLarge, UnreadableBody
from service.domain.lenient_json import parse_lenient
from service.domain.strict_json import parse_json
from service.domain.task import Json

MAX_BYTES = 2 * 1024 * 1024
"""Size limit of a body, as it is sent and decompressed."""

MAX_MEMBERS = 16
"""Compressed parts of a body, one after the other; a gateway writes one."""

MAX_FIELDS = 200
"""Fields of a form; a provider's task has some twenty."""

MAX_LENIENT_PARTS = 10_000
"""Brackets, commas, colons and quotes of a body that is read leniently; a provider's task has some hundred."""

MAX_PART_HEAD = 1024
"""Bytes of the head of a form's part in which its name is looked for."""

STATUS_FIELDS = frozenset({"state", "status"})

_STRUCTURE = (b"{", b"[", b",", b":", b'"')
_GZIP = b"\x1f\x8b"
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate"})
_ANY_HEADER, _NO_HEADER = 47, -15
"""Values of zlib's `wbits`: gzip or zlib, found out by itself; raw deflate."""

_FORM = re.compile(rb"\s*[A-Za-z_][\w.\[\]%+-]*=")
_BOUNDARY = re.compile(r'\s*multipart/form-data\s*;.*?boundary="?([^";,\s]{1,200})', re.IGNORECASE)
_FIELD_NAME = re.compile(rb'^content-disposition:[^\r\n]*?\bname="([^"]*)"', re.IGNORECASE | re.MULTILINE)


def parse_callback(body: bytes, headers: Mapping[str, str]) -> object:
    """Return the JSON value in a callback's body; `headers` have lower-case names.

    Of a form, the value of a field that holds JSON, or an object of the fields. Raises BodyTooLarge for one that
    decompresses to more than 2 MiB, UnreadableBody for any other body.
    """
    raw = _decompressed(body, headers.get("content-encoding", ""))
    if (fields := _form_fields(raw, headers.get("content-type", ""))) is not None:
        return _from_fields(fields)
    value = _parse(raw)
    return _parsed(value) if isinstance(value, str) else value


def _parse(raw: bytes) -> object:
    """Return the JSON value in `raw`, leniently only where that is fast: a caller may send anything."""
    if len(raw) > MAX_LENIENT_PARTS and sum(raw.count(each) for each in _STRUCTURE) > MAX_LENIENT_PARTS:
        return parse_json(raw)
    return parse_lenient(raw, max_parts=4 * MAX_LENIENT_PARTS)


def _decompressed(body: bytes, content_encoding: str) -> bytes:
    """Return the body without its compression; one that is not compressed, whatever its header says, is unchanged."""
    if content_encoding:
        for coding in reversed(content_encoding.lower().split(",")[-MAX_MEMBERS:]):
            if coding.strip() in _COMPRESSED:
                body = _inflated(body)
    return _inflated(body) if body.startswith(_GZIP) else body


def _inflated(body: bytes) -> bytes:
    for window in (_ANY_HEADER, _NO_HEADER):
        try:
            return _inflated_members(body, window)
        except zlib.error:
            continue
    return body


def _inflated_members(body: bytes, window: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    for _ in range(MAX_MEMBERS):
        member = zlib.decompressobj(window)
        parts.append(member.decompress(body, MAX_BYTES + 1 - size))
        size += len(parts[-1])
        if size > MAX_BYTES:
            raise BodyTooLarge(f"a body here is at most {MAX_BYTES:,} bytes, also decompressed")
        body = member.unused_data
        if not body.startswith(_GZIP):
            break
    return b"".join(parts)


def _form_fields(raw: bytes, content_type: str) -> Mapping[str, str] | None:
    """Return the fields of a form, also of one that is not announced; None for a body that is no form."""
    if boundary := _BOUNDARY.match(content_type):
        return dict(_multipart_fields(raw, boundary[1].encode()))
    if not _FORM.match(raw):
        return None
    try:
        return dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError as error:
        raise UnreadableBody(f"the form has more than {MAX_FIELDS} fields") from error


def _multipart_fields(raw: bytes, boundary: bytes) -> Iterator[tuple[str, str]]:
    for part in raw.split(b"--" + boundary, MAX_FIELDS + 1)[1 : MAX_FIELDS + 1]:
        head, _, content = part.partition(b"\r\n\r\n")
        if name := _FIELD_NAME.search(head[:MAX_PART_HEAD]):
            yield name[1].decode("utf-8", "replace"), content.removesuffix(b"\r\n").decode("utf-8", "replace")


def _from_fields(fields: Mapping[str, str]) -> Json:
    """Return the object that a form stands for: its fields, with JSON in them parsed.

    Where the fields have no status of their own, an object in one of them is the task, under the name `data`.
    """
    values = {name: _parsed(text) for name, text in fields.items()}
    if not STATUS_FIELDS & values.keys():
        for name, value in values.items():
            if isinstance(value, dict):
                return {**values, name: None, "data": value}
    return values


def _parsed(text: str) -> object:
    """Return the JSON object or list in a text, and any other text unchanged."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return _parse(text.encode("utf-8", "replace"))
    except UnreadableBody:
        return text
