"""The style sheet, the script and the icon, served from addresses that change with their content."""

import hashlib
from functools import cache
from http import HTTPStatus
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.endpoints import route
from service.domain.errors import NotFound

PREFIX = "/assets/"
NAMES = ("style.css", "dashboard.js", "new_task.js", "icon.svg")
TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
FOREVER = "public, max-age=31536000, immutable"
"""For an address with the version of the content; another version has another address."""


@cache
def content(name: str) -> tuple[bytes, str]:
    """Return the bytes of an asset and their version."""
    data = (files("service.dashboard") / "static" / name).read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:16]


def load_assets() -> None:
    """Read every asset, so that no later change of the files is seen."""
    for name in NAMES:
        content(name)


def address(name: str) -> str:
    """Return the address of an asset with its version."""
    return f"{PREFIX}{name}?v={content(name)[1]}"


async def _show(request: Request) -> Response:
    name = str(request.path_params["name"])
    if name not in NAMES:
        raise NotFound("there is no such file")
    data, version = content(name)
    etag = f'"{version}"'
    cached = FOREVER if request.query_params.get("v") == version else "no-cache"
    headers = {"ETag": etag, "Cache-Control": cached}
    if etag in [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(data, headers=headers, media_type=TYPES[name.rpartition(".")[2]])


def asset_routes() -> list[Route]:
    """Return the route of the assets."""
    return [route(PREFIX + "{name}", get=_show)]
