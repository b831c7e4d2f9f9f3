"""Serve results: videos and covers, at addresses that expire."""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from service.sandbox.faulty_responses import CutResponse, xml_error
from service.sandbox.signed_urls import UrlSigner
from service.sandbox.state import SandboxState
from service.sandbox.tasks import Task

if TYPE_CHECKING:
    from service.sandbox.media_store import MediaStore  # needs the media extra, which may be missing

_FOUND, _FORBIDDEN, _NOT_FOUND = 302, 403, 404
_MP4 = "video/mp4"
_ENCODINGS = ("UTF-8", "aws-chunked", "br", "")
_MEDIA_TYPES = ("text/html", "application/octet-stream", "", None)
_TRAILING = b"\r\n<!-- end -->"
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
        task = self.state.of_files(stem.removesuffix(_WATERMARKED).partition(".")[0])
        if task is None or not self._is_available(task):
            return xml_error(_NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
        hops = request.query_params.get("hop", "0")
        if hops.isascii() and hops.isdigit() and int(hops) < self.state.switches.redirects:
            return RedirectResponse(request.url.include_query_params(hop=int(hops) + 1), _FOUND)
        if extension == "jpg":
            return Response(await self.media_store.cover(task), media_type="image/jpeg")
        return await self._video(task, watermarked=stem.endswith(_WATERMARKED))

    def _is_available(self, task: Task) -> bool:
        if task.ended_at is None:
            return False
        return (self.state.now() - task.ended_at).total_seconds() >= self.state.switches.not_there_for

    async def _video(self, task: Task, *, watermarked: bool) -> Response:
        video = await self.media_store.video(task, watermarked=watermarked)
        occasion = self.state.billing.requests["download"]
        if self.state.hits("bad_results", occasion):
            return HTMLResponse("<html><body>Please sign in</body></html>")
        if self.state.hits("cut_downloads", occasion):
            return CutResponse(_content(video), media_type=_MP4)
        switches = ("odd_file_encoding", "gzip_downloads", "trailing_bytes", "odd_content_type")
        if faults := {switch for switch in switches if self.state.hits(switch, occasion)}:
            return self._odd_response(_content(video), faults, occasion)
        if isinstance(video, Path):
            return FileResponse(video, media_type=_MP4)
        return Response(video, media_type=_MP4)

    def _odd_response(self, content: bytes, faults: set[str], occasion: int) -> Response:
        """Return the file with the faults of these switches."""
        drawn = self.state.faults.draw("odd response", str(occasion))
        content += _TRAILING if "trailing_bytes" in faults else b""
        headers = {}
        if "gzip_downloads" in faults:
            content, headers["Content-Encoding"] = gzip.compress(content), "gzip"
        elif "odd_file_encoding" in faults:
            headers["Content-Encoding"] = _ENCODINGS[int(drawn * len(_ENCODINGS))]
        media_type = _MEDIA_TYPES[int(drawn * len(_MEDIA_TYPES))] if "odd_content_type" in faults else _MP4
        if media_type is not None:
            headers["Content-Type"] = media_type
        return Response(content, headers=headers)


def _content(video: Path | bytes) -> bytes:
    return video.read_bytes() if isinstance(video, Path) else video
