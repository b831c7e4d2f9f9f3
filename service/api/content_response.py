"""Responds with the bytes of stored content, while they are read."""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.byte_ranges import ByteRange, Unsatisfiable, has_current, requested_range
from service.api.problems import Problem, ProblemError
from service.domain.artifact import StoredContent

POLICY = "default-src 'none'; media-src 'self'; img-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""Lets a browser show the content by itself: its page for a video or an image loads that from the same address."""


class ContentResponse(Response):
    """Sends the parts as fast as the client takes them, and closes their source whatever happens."""

    def __init__(self, parts: AsyncIterator[bytes], status: int, headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(None, status, headers, media_type)
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send the response; an error of the source ends the connection before the end of the body."""
        async with aclosing(self._parts) as parts:  # type: ignore[type-var] # generators
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for part in parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def content_response(request: Request, content: StoredContent) -> Response:
    """Return the response for GET or HEAD of `content`: 200, 206 for a range, 304 for a known version.

    The first part is read before, so that an archive that does not answer is a problem and not half a file. Raises a
    416 problem for a range behind the end.
    """
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'inline; filename="{content.name}"',
        "Content-Security-Policy": POLICY,
        "ETag": content.etag,
    }
    if has_current(request.headers.getlist("if-none-match"), content.etag):
        return _without_body(HTTPStatus.NOT_MODIFIED, headers, content)
    if request.method == "HEAD":
        return _without_body(HTTPStatus.OK, headers | {"Content-Length": str(content.size)}, content)
    wanted = _range_of(request, content)
    status = HTTPStatus.OK if wanted is None else HTTPStatus.PARTIAL_CONTENT
    if wanted is not None:
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{content.size}"
    start, stop = (wanted.start, wanted.stop) if wanted else (0, content.size)
    headers["Content-Length"] = str(stop - start)
    parts = content.read(start, stop)
    try:
        first = await anext(parts, b"")
    except BaseException:
        await _close(parts)
        raise
    return ContentResponse(_with_first(first, parts), status, headers, content.media_type)


def _range_of(request: Request, content: StoredContent) -> ByteRange | None:
    lists = request.headers.getlist
    try:
        return requested_range(lists("range"), lists("if-range"), content.etag, content.size)
    except Unsatisfiable:
        problem = Problem(
            status=416,
            kind="range-not-satisfiable",
            detail=f"the content has {content.size} bytes",
            headers={"Content-Range": f"bytes */{content.size}", "Accept-Ranges": "bytes"},
        )
        raise ProblemError(problem) from None


def _without_body(status: int, headers: Mapping[str, str], content: StoredContent) -> Response:
    response = Response(None, status, headers, content.media_type)
    if status == HTTPStatus.NOT_MODIFIED:
        for name in ("content-length", "content-type"):
            if name in response.headers:
                del response.headers[name]
    return response


async def _with_first(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        yield first
        async for part in rest:
            yield part
    finally:
        await _close(rest)


async def _close(parts: AsyncIterator[bytes]) -> None:
    close = getattr(parts, "aclose", None)
    if close is not None:
        await close()
