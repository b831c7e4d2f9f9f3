"""A stand-in for the provider's file server, and the directory where results are stored."""

from pathlib import Path
from typing import Any

import httpx

from service.deliveries.handler_api import Tools
from tests.support.delivery_builders import Results, tools
from tests.support.sample_media import video

VIDEO = video()
URL = "https://files.example/video.mp4?sig=hidden"
FRESH = "https://files.example/fresh.mp4"
HTML = b"<!doctype html><html><body>Sign in</body></html>"


class FileServer:
    """A file server of the provider: returns the prepared responses of each URL in order."""

    def __init__(self) -> None:
        self.responses: dict[str, list[httpx.Response]] = {}
        self.requests: list[str] = []

    def respond(self, url: str, *responses: httpx.Response) -> None:
        """Return each of `responses` for `url`, and the last one from then on."""
        self.responses[url] = list(responses)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Return the next response."""
        url = str(request.url)
        self.requests.append(url)
        responses = self.responses[url]
        return responses.pop(0) if len(responses) > 1 else responses[0]


class ArchiveSetup:
    """A file server, a directory, and the artifacts that the handler recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = FileServer()
        self.results = Results()

    def tools(self, **changes: Any) -> Tools:
        """Return tools that reach only the file server."""
        defaults: dict[str, Any] = {
            "settings": {"ARCHIVE_URL": self.folder.as_uri()},
            "results": self.results,
        } | changes
        return tools(httpx.AsyncClient(transport=httpx.MockTransport(self.server)), **defaults)

    def files(self) -> dict[str, bytes]:
        """Return name and content of every file in the directory."""
        return {path.name: path.read_bytes() for path in self.folder.iterdir()} if self.folder.is_dir() else {}


def archive_setup(folder: Path) -> ArchiveSetup:
    """Return a setup over `folder`, with the video at its URL."""
    setup = ArchiveSetup(folder)
    setup.server.respond(URL, httpx.Response(200, content=VIDEO))
    return setup
