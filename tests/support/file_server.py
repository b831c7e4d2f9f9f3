"""A stand-in for the upstream's file server, and the directory that results are kept in."""

from pathlib import Path
from typing import Any

import httpx

from service.deliveries.handler_api import Tools
from tests.support.delivery_builders import Results, tools
from tests.support.sample_media import video

FILM = video()
URL = "https://files.example/film.mp4?sig=hidden"
FRESH = "https://files.example/fresh.mp4"
HTML = b"<!doctype html><html><body>Sign in</body></html>"


class Shop:
    """An upstream's file server: answers each address in turn with what was laid out for it."""

    def __init__(self) -> None:
        self.pages: dict[str, list[httpx.Response]] = {}
        self.asked: list[str] = []

    def lay_out(self, url: str, *answers: httpx.Response) -> None:
        """Answer `url` with each of `answers`, with the last one for ever."""
        self.pages[url] = list(answers)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        url = str(request.url)
        self.asked.append(url)
        answers = self.pages[url]
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Workshop:
    """A shop, a directory, and what the handler has recorded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shop = Shop()
        self.results = Results()

    def tools(self, **changes: Any) -> Tools:
        """Return tools that reach the shop only."""
        given: dict[str, Any] = {"settings": {"ARCHIVE_URL": self.folder.as_uri()}, "results": self.results} | changes
        return tools(httpx.AsyncClient(transport=httpx.MockTransport(self.shop)), **given)

    def files(self) -> dict[str, bytes]:
        """Return everything that lies in the directory."""
        return {path.name: path.read_bytes() for path in self.folder.iterdir()} if self.folder.is_dir() else {}


def workshop(folder: Path) -> Workshop:
    """Return a workshop over `folder`, with the film at its address."""
    made = Workshop(folder)
    made.shop.lay_out(URL, httpx.Response(200, content=FILM))
    return made
