"""Faulty responses: cut connections, truncated JSON, HTML and XML error pages."""

import json
from typing import Any

import httpx
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

CUT = "sandbox.cut"
"""Key in a request's scope; a value in its list requests that the connection is cut."""

_PAGES = {500: "Internal Server Error", 502: "Bad Gateway", 504: "Gateway Time-out"}


class ConnectionCut(httpx.ReadError):
    """Raised for a dropped connection where there is no real connection.

    Over a real server the sandbox closes the connection. Over `httpx.ASGITransport` it raises this error, so that the
    client receives the same `httpx.ReadError` as from a dropped connection.
    """


class CutResponse(Response):
    """Response that cuts the connection: before the first byte, or in the middle of the content."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send half of the content, if any, and request the cut."""
        if self.body:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            half = bytes(self.body[: len(self.body) // 2])
            await send({"type": "http.response.body", "body": half, "more_body": True})
        scope[CUT].append(True)


def page(status: int) -> Response:
    """Return the HTML error page of a proxy."""
    title = f"{status} {_PAGES[status]}"
    return HTMLResponse(f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>", status)


def half(body: dict[str, Any]) -> Response:
    """Return 200 with the first half of the JSON."""
    content = json.dumps(body).encode()
    return Response(content[: len(content) // 2], media_type="application/json")


def xml_error(status: int, code: str, message: str) -> Response:
    """Return the XML error of an object store."""
    content = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Response(content, status, media_type="application/xml")


def throttled(response: Response, retry_after: float) -> Response:
    """Add Retry-After to a 429 response if `retry_after` is over 0 seconds."""
    if retry_after > 0.0:
        response.headers["Retry-After"] = str(max(1, round(retry_after)))
    return response
