"""Serve results: films and covers, from addresses that expire."""

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from service.sandbox.faulty_responses import CutResponse, xml_error
from service.sandbox.signed_urls import Links
from service.sandbox.state import SandboxState
from service.sandbox.tasks import Task

if TYPE_CHECKING:
    from service.sandbox.media_store import MediaStore  # needs the media extra, which may be missing

_FORBIDDEN, _NOT_FOUND = 403, 404
_MARKED = "-marked"


class Files:
    """Serve `GET /files/{name}` for a name that a task's answer gave."""

    def __init__(self, world: SandboxState, links: Links, studio: "MediaStore") -> None:
        self._world = world
        self._links = links
        self._studio = studio

    async def __call__(self, request: Request) -> Response:
        """Return the file; 403 for a forged or expired address, 404 while the file is not there yet."""
        self._world.ledger.requests["download"] += 1
        name: str = request.path_params["name"]
        expires, signature = request.query_params.get("expires", ""), request.query_params.get("sig", "")
        if not self._links.fits(name, expires, signature):
            return xml_error(_FORBIDDEN, "SignatureDoesNotMatch", "The request signature does not match.")
        if not self._links.lives(expires):
            return xml_error(_FORBIDDEN, "AccessDenied", "Request has expired.")
        stem, _, kind = name.rpartition(".")
        task = self._world.tasks.get(stem.removesuffix(_MARKED))
        if task is None or not self._is_there(task):
            return xml_error(_NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
        return await self._file(task, kind, marked=stem.endswith(_MARKED))

    def _is_there(self, task: Task) -> bool:
        if task.ended_at is None:
            return False
        return (self._world.now() - task.ended_at).total_seconds() >= self._world.switches.not_there_for

    async def _file(self, task: Task, kind: str, *, marked: bool) -> Response:
        if kind == "jpg":
            return Response(await self._studio.cover(task), media_type="image/jpeg")
        film = await self._studio.film(task, marked=marked)
        if self._world.hits("cut_downloads", self._world.ledger.requests["download"]):
            content = film.read_bytes() if isinstance(film, Path) else film
            return CutResponse(content, media_type="video/mp4")
        if isinstance(film, Path):
            return FileResponse(film, media_type="video/mp4")
        return Response(film, media_type="video/mp4")
