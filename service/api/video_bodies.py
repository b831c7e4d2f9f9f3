"""Reads the bodies of an OpenAI-shaped video API: JSON, or a form with files. A form is read as JSON is written."""

import base64
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from anyio.to_thread import run_sync
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.api.nul_characters import may_have_nul
from service.api.request_bodies import MB, UTF_8, BodyReader, require_json
from service.domain.errors import Fault, InvalidParams, UnreadableBody
from service.domain.media.file_headers import sniff
from service.domain.models.catalog import MODELS
from service.domain.models.json_schema import json_schema
from service.domain.strict_json import parse_json
from service.domain.task import Json

FORM_TYPE = "multipart/form-data"
MAX_FIELDS, MAX_FILES, MAX_FIELD_BYTES = 64, 16, 4 * MB
MEDIA_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "avi": "video/x-msvideo",
}
"""The type of a file by its content, where the form names none."""

FormField = tuple[str, str | tuple[str, bytes]]
"""The name of a field and its text, or the type and content of its file."""

UNTYPED = frozenset({"", "application/octet-stream"})
REFERENCE = "input_reference"
REPEATABLE = frozenset({REFERENCE, "images", "videos"})
"""Fields that may be given several times without brackets: several gateways read references like that."""
NO_FIELD = (
    "is no name of a field here: a form has texts, files, and lists and objects of texts; send others in a body of"
    " application/json"
)
_NAME = re.compile(r"([A-Za-z0-9_]{1,64})(?:(\[\])|\[([^\[\]]{1,200})\])?")
_REFERENCE_KEY = re.compile(rf"{REFERENCE}(?:\[\])?\[([a-z_]{{1,200}})\]")
"""The name of a field of a reference object. Without brackets between, it may be one of several in a list."""
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_BOUNDARY = re.compile(r";\s*boundary\*?\d*\*?\s*=", re.IGNORECASE)
FLAGS = {"true": True, "false": False}


class _InMemoryParser(MultiPartParser):
    """Keeps files in memory, which is bounded by the size of the body: nothing of a client gets onto the disk."""

    spool_max_size = 64 * MB


@dataclass(frozen=True, kw_only=True)
class VideoBody:
    """The value of a body; `size` is in bytes, `nul` is true if it may contain the character U+0000."""

    data: object = field(repr=False)
    size: int
    nul: bool


@asynccontextmanager
async def video_body(bodies: BodyReader, request: Request) -> AsyncIterator[VideoBody]:
    """Yield the value of the body; its memory counts until the block ends.

    Raises like `BodyReader.read`, UnreadableBody for a form that cannot be read, InvalidParams for names in it.
    """
    if is_form(request):
        async with bodies.stream(request) as parts:
            counted = _Counted(parts)
            data = await run_sync(form_value, await _form(request, counted.read()))
            yield VideoBody(data=data, size=counted.size, nul=True)
        return
    require_json(request)
    async with bodies.read(request) as body:
        nul = may_have_nul(body)
        yield VideoBody(data=await run_sync(parse_json, body), size=len(body), nul=nul)


def is_form(request: Request) -> bool:
    """Return whether the body is announced as a form with files."""
    types = request.headers.getlist("content-type")
    coded = {each.strip().lower() for each in request.headers.getlist("content-encoding")} - {"identity"}
    return len(types) == 1 and not coded and types[0].partition(";")[0].strip().lower() == FORM_TYPE


class _Counted:
    """Counts the bytes of a stream."""

    def __init__(self, parts: AsyncGenerator[bytes, None]) -> None:
        self._parts = parts
        self.size = 0

    async def read(self) -> AsyncGenerator[bytes, None]:
        """Yield the parts."""
        async for part in self._parts:
            self.size += len(part)
            yield part


async def _form(request: Request, parts: AsyncGenerator[bytes, None]) -> list[FormField]:
    """Return the fields of a form in their order: texts, and files with their type."""
    _require_utf_8(request)
    _require_one_boundary(request)
    parser = _InMemoryParser(
        request.headers, parts, max_files=MAX_FILES, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    )
    try:
        form: FormData = await parser.parse()
    except MultiPartException as error:
        raise UnreadableBody(f"the form cannot be read: {error.message}") from error
    try:
        found: list[FormField] = []
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                found.append((name, (value.content_type or "", await value.read())))
            else:
                found.append((name, value))
        return found
    finally:
        await form.close()


def _require_one_boundary(request: Request) -> None:
    """Raise UnreadableBody for two boundaries: a proxy before this service may have checked the other form."""
    if len(_BOUNDARY.findall(request.headers["content-type"])) > 1:
        raise UnreadableBody("the form cannot be read: its type names two boundaries")


def _require_utf_8(request: Request) -> None:
    """Raise UnreadableBody for a form in another charset: some of them decode to what no text may contain."""
    _, options = parse_options_header(request.headers["content-type"])
    if options.get(b"charset", b"utf-8").decode("latin-1").lower() not in UTF_8:
        raise UnreadableBody("the form cannot be read: send it in UTF-8")


def form_value(fields: list[FormField]) -> Json:
    """Return the JSON object that a form means: `a[]` is a list, `a[b]` an object, a file a data URI.

    Texts have the type that the model's parameter has. Raises InvalidParams with every fault.
    """
    data: Json = {}
    faults: list[Fault] = []
    for name, value in fields:
        reference = _REFERENCE_KEY.fullmatch(name)
        match = _NAME.fullmatch(REFERENCE if reference else name)
        if match is None:
            faults.append(Fault(loc=(name[:64].encode("ascii", "replace").decode(),), msg=NO_FIELD))
            continue
        if isinstance(value, tuple) and not value[1]:
            faults.append(Fault(loc=(match[1],), msg="is an empty file: send its content"))
            continue
        text = value if isinstance(value, str) else _data_uri(*value)
        found = {reference[1]: text} if reference else text
        if not _put(data, match, found, repeatable=match[1] in REPEATABLE):
            faults.append(Fault(loc=(match[1],), msg="is given more than once, or in two forms: give it once"))
    if faults:
        raise InvalidParams(faults)
    return _typed(data)


def _put(data: Json, match: re.Match[str], value: object, *, repeatable: bool) -> bool:
    """Add a field; return False if another one is in its place."""
    name, listed, key = match.groups()
    if listed or repeatable:
        target = data.setdefault(name, [])
        if isinstance(target, list):
            target.append(value)
        return isinstance(target, list)
    target, place = (data, name) if key is None else (data.setdefault(name, {}), key)
    if not isinstance(target, dict) or place in target:
        return False
    target[place] = value
    return True


def _data_uri(media_type: str, content: bytes) -> str:
    declared = media_type.partition(";")[0].strip().lower()
    if declared in UNTYPED:
        declared = MEDIA_TYPES.get(sniff(content) or "", "application/octet-stream")
    return f"data:{declared};base64,{base64.b64encode(content).decode('ascii')}"


def _typed(data: Json) -> Json:
    """Return `data` with numbers and flags in place of the texts of such parameters; other texts are left to them."""
    model = data.get("model")
    schemas = [json_schema(each) for each in MODELS if model in {None, each}]
    kinds = {name: part["type"] for schema in schemas for name, part in _properties(schema).items()}
    return {name: _converted(value, kinds.get(name)) for name, value in data.items()}


def _properties(schema: Json) -> Json:
    found: Json = schema["properties"]
    return found


def _converted(value: object, kind: str | None) -> object:
    if not isinstance(value, str):
        return value
    if kind == "integer" and _INTEGER.fullmatch(value):
        return int(value)
    return FLAGS.get(value, value) if kind == "boolean" else value
