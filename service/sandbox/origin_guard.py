"""Protect switches and counters from web pages of other sites, which a browser on this machine may open."""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.sandbox.callback_sender import on_loopback

_FORBIDDEN, _UNSUPPORTED = 403, 415


def foreign_origin_error(request: Request, *, public_url: str) -> Response | None:
    """Return the error response for a request that a page of another site may have sent, otherwise None.

    The header Host reveals DNS rebinding, Origin a cross-site request, and the content type a form. Host may be a
    loopback address, the address of the connection, or the host of the switch `public_url`.
    """
    hosts, origins = request.headers.getlist("host"), request.headers.getlist("origin")
    if len(hosts) != 1 or not _is_own_host(hosts[0], request, public_url):
        return _error(_FORBIDDEN, "Host must be a loopback address, or the one that the sandbox listens on")
    if any(origin.partition("://")[2] != hosts[0] for origin in origins):
        return _error(_FORBIDDEN, "Origin must be the sandbox itself, not another site")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and media_type != "application/json":
        return _error(_UNSUPPORTED, "send Content-Type: application/json")
    return None


def _is_own_host(host: str, request: Request, public_url: str) -> bool:
    name = _host_name(f"//{host}")
    listening = request.scope.get("server") or ("", None)
    return bool(name) and (on_loopback(f"//{host}") or name in {listening[0], _host_name(public_url)})


def _host_name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
