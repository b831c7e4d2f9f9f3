"""Serve results: films and covers, from addresses that expire."""

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import FileResponse, Response

from service.sandbox.faulty_responses import CutResponse, xml_error
from service.sandbox.signed_urls import UrlSigner
from service.sandbox.state import SandboxState
from service.sandbox.tasks import Task

if TYPE_CHECKING:
    from service.sandbox.media_store import MediaStore  # needs the media extra, which may be missing

_FORBIDDEN, _NOT_FOUND = 403, 404
_MARKED = "-marked"


class ResultFiles:
    """Serve `GET /files/{name}` for a name that a task's answer gave."""

    def __init__(self, state: SandboxState, signer: UrlSigner, media_store: "MediaStore") -> None:
        self._state = state
        self._signer = signer
        self._media_store = media_store

    async def __call__(self, request: Request) -> Response:
        """Return the file; 403 for a forged or expired address, 404 while the file is not there yet."""
        self._state.billing.requests["download"] += 1
        name: str = request.path_params["name"]
        expires, signature = request.query_params.get("expires", ""), request.query_params.get("sig", "")
        if not self._signer.is_signed(name, expires, signature):
            return xml_error(_FORBIDDEN, "SignatureDoesNotMatch", "The request signature does not match.")
        if not self._signer.is_valid(expires):
            return xml_error(_FORBIDDEN, "AccessDenied", "Request has expired.")
        stem, _, kind = name.rpartition(".")
        task = self._state.tasks.get(stem.removesuffix(_MARKED))
        if task is None or not self._is_there(task):
            return xml_error(_NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
        return await self._file(task, kind, marked=stem.endswith(_MARKED))

    def _is_there(self, task: Task) -> bool:
        if task.ended_at is None:
            return False
        return (self._state.now() - task.ended_at).total_seconds() >= self._state.switches.not_there_for

    async def _file(self, task: Task, kind: str, *, marked: bool) -> Response:
        if kind == "jpg":
            return Response(await self._media_store.cover(task), media_type="image/jpeg")
        video = await self._media_store.video(task, marked=marked)
        if self._state.hits("cut_downloads", self._state.billing.requests["download"]):
            content = video.read_bytes() if isinstance(video, Path) else video
            return CutResponse(content, media_type="video/mp4")
        if isinstance(video, Path):
            return FileResponse(video, media_type="video/mp4")
        return Response(video, media_type="video/mp4")
