"""Whose forms are accepted: actions for admins alone, and forms with files."""

import httpx
import pytest

from tests.unit.dashboard.conftest import KEYS, TOKEN, PagesUnderTest

PATHS = ["/deliveries/handlers/log", "/deliveries/circuits/log"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("who", ["ann", "view"])
async def test_actions_of_admins_are_refused_to_others(pages: PagesUnderTest, path: str, who: str) -> None:
    """Not only the page that shows the button: a client that knows the address sends the form itself."""
    answer = await pages.post(path, who, action="pause")
    assert answer.status_code == 403
    assert await pages.store.handler_pauses.paused() == {}


async def send_files(pages: PagesUnderTest, token: str, **headers: str) -> httpx.Response:
    """Send the form of a new task with a file, as multipart."""
    fields = {"form_token": token, "prompt": "a cat"}
    files = {"images": ("a.png", b"pixels", "image/png")}
    all_headers = {"Authorization": f"Bearer {KEYS['ann']}", **headers}
    return await pages.http.post("/new", data=fields, files=files, headers=all_headers)


@pytest.mark.parametrize("origin", ["http://127.0.0.1", "https://other.example"])
@pytest.mark.parametrize("known", [True, False])
async def test_form_with_files_needs_its_token_and_its_site(pages: PagesUnderTest, origin: str, known: bool) -> None:
    """As every other form: a page of another site may send files too."""
    [own, *_] = TOKEN.findall((await pages.get("/new", "ann")).text)
    [other, *_] = TOKEN.findall((await pages.get("/new", "admin")).text)
    answer = await send_files(pages, own if known else other, Origin=origin)
    accepted = known and origin == "http://127.0.0.1"
    assert (answer.status_code == 403) is not accepted
