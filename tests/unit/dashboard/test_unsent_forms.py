"""A form whose session ended meanwhile: what was typed is kept, and sent after signing in and one more press."""

import re
from html import unescape

import httpx
import pytest

from service.dashboard.unsent_forms import read_unsent, unsent_form
from service.dashboard.uploads import Upload
from tests.unit.dashboard.conftest import KEYS, PagesUnderTest, token_in

OWN = {"Origin": "http://127.0.0.1"}
TYPED = 'a "cat" <b>&amp; 山の朝\r\nsecond line'
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')
NEW = {"model": "viduq2_pro_reference", "prompt": TYPED, "images": "https://example.org/cat.png", "send_id": "s" * 24}


def hidden(page: httpx.Response) -> dict[str, str]:
    """Return the hidden fields of the main form of a page."""
    main = page.text.partition("<main")[2]
    return {name: unescape(value) for name, value in HIDDEN.findall(main)}


async def signed_in(pages: PagesUnderTest, who: str, fields: dict[str, str] | None = None) -> httpx.Response:
    """Sign the browser in; `fields` are those of the page to sign in, if it is shown already."""
    found = fields or hidden(await pages.http.get("/sign-in"))
    return await pages.http.post("/sign-in", data={**found, "key": KEYS[who]}, headers=OWN)


async def test_form_without_a_session_is_kept(pages: PagesUnderTest) -> None:
    """A wrong key in between loses nothing either; nothing happens before the last press, which creates one task."""
    first = await pages.http.post("/new", files=[], data={**NEW, "form_token": "old"}, headers=OWN)
    assert (first.status_code, "Your session has ended" in first.text) == (200, True)
    wrong = await pages.http.post("/sign-in", data={**hidden(first), "key": "not-a-key-at-all"}, headers=OWN)
    assert (wrong.status_code, "not a key" in wrong.text) == (403, True)
    page = await signed_in(pages, "ann", hidden(wrong))
    assert (page.status_code, "nothing was done yet" in page.text) == (200, True)
    assert not (await pages.get("/v1/tasks")).json()["data"]
    fields = hidden(page)
    assert fields["prompt"].replace("\r\n", "\n") == TYPED.replace("\r\n", "\n")
    for _ in range(2):
        done = await pages.http.post("/new", data=fields, headers=OWN)
        assert done.status_code == 303, done.text
    [task] = (await pages.get("/v1/tasks", "ann")).json()["data"]
    assert task["params"]["prompt"].split()[:2] == ["a", '"cat"']


async def test_form_of_another_session_is_kept(pages: PagesUnderTest) -> None:
    """Signed out and in again in another tab, as somebody else: the page says who sends it now."""
    await signed_in(pages, "ann")
    token = token_in(await pages.http.get("/new"))
    await pages.http.post("/sign-out", data={"form_token": token}, headers=OWN)
    await signed_in(pages, "admin")
    files = {"images": ("a b.png", b"png", "image/png")}
    page = await pages.http.post("/new", data={**NEW, "form_token": token}, files=files, headers=OWN)
    assert (page.status_code, "signed in as <strong>ops</strong>" in page.text) == (403, True)
    assert hidden(page)["images_kept"] == "a%20b.png|data:image/png;base64,cG5n"
    assert "a%20b.png" in page.text.partition("<dl>")[2]


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_form_of_another_site_is_not_kept(pages: PagesUnderTest, headers: dict[str, str]) -> None:
    """Otherwise a site could have somebody sign in to press a button for it."""
    first = await pages.http.post("/new", data=NEW, headers=headers)
    assert (first.status_code, first.headers["location"]) == (303, "/sign-in")
    await signed_in(pages, "ann")
    refused = await pages.http.post("/new", data={**NEW, "form_token": "forged"}, headers=headers)
    assert "nother site sent this form" in refused.text
    unknown = await pages.http.post("/new", data={**NEW, "form_token": "forged"})  # nothing says where it is from
    assert (unknown.status_code, TYPED.split(maxsplit=1)[0] in hidden(unknown)) == (403, False)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", '["//evil.example", []]', '["/a", [1]]', "[" * 9999, '["x", [["a", "b"]]]']
)
def test_text_that_is_no_form(text: str) -> None:
    """A changed field leads nowhere."""
    assert read_unsent(text) is None


def test_large_files_are_named() -> None:
    """What is too large to stay in the page is named, so that it is chosen again."""
    large = Upload(name="large.mp4", media_type="video/mp4", data=b"x" * 7_000_000)
    form = unsent_form("/new", [("prompt", "p")], [("videos", large), ("videos", large)])
    assert (form.lost, form.pairs) == (("large.mp4", "large.mp4"), (("prompt", "p"),))
