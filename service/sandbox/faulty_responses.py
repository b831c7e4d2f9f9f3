"""Answer as upstreams do when all is not well: cut connections, half a JSON, pages of HTML."""

import json
from typing import Any

import httpx
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

CUT = "sandbox.cut"
"""The key in a request's scope of the list that asks for its connection to be cut."""

_PAGES = {500: "Internal Server Error", 502: "Bad Gateway", 504: "Gateway Time-out"}


class ConnectionCut(httpx.ReadError):
    """Stand for a dropped connection where there is none.

    Over a real server the sandbox closes the connection. Over `httpx.ASGITransport` it raises this instead, so that
    a client sees the `httpx.ReadError` that a dropped connection gives it.
    """


class CutResponse(Response):
    """Cut the connection: before a single byte, or in the middle of the content."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's shape
        """Send half of the content, if any, and ask for the cut."""
        if self.body:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            half = bytes(self.body[: len(self.body) // 2])
            await send({"type": "http.response.body", "body": half, "more_body": True})
        scope[CUT].append(True)


def page(status: int) -> Response:
    """Return a page of HTML, as a proxy in front of an application writes it."""
    title = f"{status} {_PAGES[status]}"
    return HTMLResponse(f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>", status)


def half(body: dict[str, Any]) -> Response:
    """Return 200 with the first half of the JSON."""
    content = json.dumps(body).encode()
    return Response(content[: len(content) // 2], media_type="application/json")


def xml_error(status: int, code: str, message: str) -> Response:
    """Return an error as an object store writes it."""
    content = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(content, status, media_type="application/xml")


def throttled(answer: Response, retry_after: float) -> Response:
    """Add Retry-After to a 429 when there is one to give."""
    if retry_after > 0.0:
        answer.headers["Retry-After"] = str(max(1, round(retry_after)))
    return answer
