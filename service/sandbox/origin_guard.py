"""Keep other sites' pages away from the switches and the ledger: a browser on this machine can reach them."""

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.sandbox.callback_sender import on_loopback

_FORBIDDEN, _UNSUPPORTED = 403, 415


def foreign_origin_error(request: Request, *, public_url: str) -> Response | None:
    """Return the answer to a request that a page of another site may have made, None for any other.

    A page whose name was made to lead here (DNS rebinding) shows by its Host, one that posts across sites by its
    Origin, and one that posts a form by its type. Host may be loopback, the address that was connected to, or that of
    the switch `public_url`.
    """
    hosts, origins = request.headers.getlist("host"), request.headers.getlist("origin")
    if len(hosts) != 1 or not _ours(hosts[0], request, public_url):
        return _answer(_FORBIDDEN, "Host must be a loopback address, or the one that the sandbox listens on")
    if any(origin.partition("://")[2] != hosts[0] for origin in origins):
        return _answer(_FORBIDDEN, "no page of another site may ask this")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "POST" and media_type != "application/json":
        return _answer(_UNSUPPORTED, "send Content-Type: application/json")
    return None


def _ours(host: str, request: Request, public_url: str) -> bool:
    name = _name(f"//{host}")
    listening = request.scope.get("server") or ("", None)
    return bool(name) and (on_loopback(f"//{host}") or name in {listening[0], _name(public_url)})


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _answer(status: int, words: str) -> Response:
    return JSONResponse({"error": words}, status)
