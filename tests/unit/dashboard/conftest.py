"""The dashboard over a real database, without a process or a port."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from service.runtime.application import Application
from service.runtime.bootstrap import build_application
from service.runtime.config.settings import load_settings
from service.runtime.web import build_app
from service.storage import Store
from tests.support.database_copies import database

KEYS = {"admin": "admin-key-of-tests", "ann": "client-key-of-ann", "view": "reader-key-of-tests"}
API_KEYS = f"ops={KEYS['admin']}:admin,ann={KEYS['ann']},view={KEYS['view']}:read"
TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


@dataclass(frozen=True, kw_only=True)
class PagesUnderTest:
    """The pages, and the database below them."""

    application: Application
    http: httpx.AsyncClient

    @property
    def store(self) -> Store:
        """Return the database."""
        return self.application.store

    async def get(self, path: str, who: str = "admin", **headers: str) -> httpx.Response:
        """Return a page as the caller `who` sees it."""
        return await self.http.get(path, headers={"Authorization": f"Bearer {KEYS[who]}", **headers})

    async def post(self, path: str, who: str = "admin", **fields: str | list[str]) -> httpx.Response:
        """Send a form of `who` with the token that its pages have."""
        [token, *_] = TOKEN.findall((await self.get("/new", who)).text)
        fields = {"form_token": token, **fields}
        headers = {"Authorization": f"Bearer {KEYS[who]}", "Origin": "http://127.0.0.1"}
        return await self.http.post(path, data=fields, headers=headers)


def token_in(page: httpx.Response) -> str:
    """Return the token of the last form of a page."""
    found: str = TOKEN.findall(page.text)[-1]
    return found


class _Fields(HTMLParser):
    """Collects the fields of the form for a new task as a browser sends them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[str]] = {}
        self._inside, self._area, self._select = False, "", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._inside = self._inside or "data-new-task" in values
        name, kind = values.get("name", ""), values.get("type", "text")
        if tag == "input" and self._inside and name and kind != "file" and "disabled" not in values:
            if kind != "checkbox" or "checked" in values:
                self._add(name, values.get("value", ""))
        elif tag == "textarea" and self._inside:
            self._area = name
            self._add(name, "")
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._inside and ("selected" in values or self._select not in self.found):
            self.found[self._select] = [values["value"]]

    def handle_data(self, data: str) -> None:
        if self._area:
            self.found[self._area][-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea" and self._area:
            text = self.found[self._area][-1]
            self.found[self._area][-1], self._area = text.removeprefix("\n").replace("\n", "\r\n"), ""
        self._inside = self._inside and tag != "form"

    def _add(self, name: str, value: str) -> None:
        self.found.setdefault(name, []).append(value)


def fields_in(page: httpx.Response) -> dict[str, str | list[str]]:
    """Return the fields of the form for a new task in a page, as a browser sends them."""
    fields = _Fields()
    fields.feed(page.text)
    return {**fields.found}


@asynccontextmanager
async def open_pages(tmp_path: Path, **more: str) -> AsyncIterator[PagesUnderTest]:
    """Yield the pages of a service in which nothing runs; `more` are settings without their prefix."""
    values = {
        "DATABASE_URL": await database(tmp_path),
        "UPSTREAM_KEY": "key",
        "UPSTREAM_URL": "http://127.0.0.1:9",
        "SECRET_KEYS": "k" * 32,
        "API_KEYS": API_KEYS,
        "HANDLERS": "log,webhook",
        **more,
    }
    settings = load_settings({f"BOOMERANG_{name}": value for name, value in values.items()})
    async with build_application(settings) as application:
        app = build_app(application, "web", asyncio.Event(), lambda: None)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield PagesUnderTest(application=application, http=http)


@pytest.fixture
async def pages(tmp_path: Path) -> AsyncIterator[PagesUnderTest]:
    """Yield the pages of a service in which nothing runs."""
    async with open_pages(tmp_path) as found:
        yield found
