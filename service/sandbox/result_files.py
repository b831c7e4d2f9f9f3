"""Serve results: videos and covers, at addresses that expire."""

from dataclasses import dataclass
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
_WATERMARKED = "-marked"


@dataclass(kw_only=True, slots=True)
class ResultFiles:
    """Serve `GET /files/{name}` for the signed addresses in task bodies."""

    state: SandboxState
    signer: UrlSigner
    media_store: "MediaStore"

    async def __call__(self, request: Request) -> Response:
        """Return the file; 403 for a forged or expired address, 404 while `not_there_for` lasts."""
        self.state.billing.requests["download"] += 1
        name: str = request.path_params["name"]
        expires, signature = request.query_params.get("expires", ""), request.query_params.get("sig", "")
        if not self.signer.is_signed(name, expires, signature):
            return xml_error(_FORBIDDEN, "SignatureDoesNotMatch", "The request signature does not match.")
        if not self.signer.is_valid(expires):
            return xml_error(_FORBIDDEN, "AccessDenied", "Request has expired.")
        stem, _, extension = name.rpartition(".")
        task = self.state.of_files(stem.removesuffix(_WATERMARKED))
        if task is None or not self._is_available(task):
            return xml_error(_NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
        if extension == "jpg":
            return Response(await self.media_store.cover(task), media_type="image/jpeg")
        return await self._video(task, watermarked=stem.endswith(_WATERMARKED))

    def _is_available(self, task: Task) -> bool:
        if task.ended_at is None:
            return False
        return (self.state.now() - task.ended_at).total_seconds() >= self.state.switches.not_there_for

    async def _video(self, task: Task, *, watermarked: bool) -> Response:
        video = await self.media_store.video(task, watermarked=watermarked)
        if self.state.hits("cut_downloads", self.state.billing.requests["download"]):
            content = video.read_bytes() if isinstance(video, Path) else video
            return CutResponse(content, media_type="video/mp4")
        if isinstance(video, Path):
            return FileResponse(video, media_type="video/mp4")
        return Response(video, media_type="video/mp4")
