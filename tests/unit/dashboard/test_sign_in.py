"""Signing in and out, without a browser: what each request needs, and what it leaves."""

from datetime import timedelta

import httpx
import pytest
from sqlalchemy import select

from service.storage.audit_log import SqlEndedSignIns
from service.storage.audit_tables import audit_log
from tests.unit.dashboard.conftest import KEYS, PagesUnderTest, token_in

OWN = {"Origin": "http://127.0.0.1"}
OPENED = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}


async def send_key(pages: PagesUnderTest, *, next_page: str = "/", token: str | None = None) -> httpx.Response:
    """Send the form with the key of ann; the token is that of the form unless one is given."""
    form = await pages.http.get("/sign-in")
    fields = {"form_token": token_in(form) if token is None else token, "key": KEYS["ann"], "next": next_page}
    return await pages.http.post("/sign-in", data=fields, headers=OWN)


async def new_link(pages: PagesUnderTest) -> str:
    """Return the path of a new link that signs ann in."""
    answer = await pages.http.post("/v1/login-links", headers={"Authorization": f"Bearer {KEYS['ann']}"})
    assert answer.status_code == 201
    return httpx.URL(answer.json()["url"]).path


async def is_signed_in(pages: PagesUnderTest) -> bool:
    """Return whether the cookies of the client open the front page."""
    return (await pages.http.get("/tasks")).status_code == 200


async def actions(pages: PagesUnderTest) -> list[str]:
    """Return the actions in the audit log."""
    async with pages.store.audit_log._database.reading() as connection:
        return list((await connection.execute(select(audit_log.c.action))).scalars())


async def test_key_begins_a_session_that_scripts_and_other_sites_cannot_use(pages: PagesUnderTest) -> None:
    """The cookie is for requests of this site alone and not for its scripts; who began it is in the audit log."""
    answer = await send_key(pages)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    [session] = [text for text in answer.headers.get_list("set-cookie") if text.startswith("boomerang_session=")]
    attributes = {part.strip().lower() for part in session.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/"} <= attributes
    assert await is_signed_in(pages)
    assert await actions(pages) == ["session.begin"]


async def test_session_over_https_is_bound_to_the_host(pages: PagesUnderTest) -> None:
    """It is never sent without encryption, and no other host of the domain can set it."""
    form = await pages.http.get("/sign-in", headers={"X-Forwarded-Proto": "https"})
    fields = {"form_token": token_in(form), "key": KEYS["ann"]}
    cookie = form.headers["set-cookie"].partition(";")[0]
    headers = {"X-Forwarded-Proto": "https", "Cookie": cookie, **OWN}
    answer = await pages.http.post("/sign-in", data=fields, headers=headers)
    [session] = [text for text in answer.headers.get_list("set-cookie") if "boomerang_session=" in text]
    assert session.startswith("__Host-boomerang_session=")
    assert "; secure" in session.lower()


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_key_without_the_token_of_the_form_signs_nobody_in(pages: PagesUnderTest, token: str) -> None:
    """A page of another site would sign a person in with a key of its own."""
    assert (await send_key(pages, token=token)).status_code == 403
    assert not await is_signed_in(pages)


@pytest.mark.parametrize("elsewhere", ["//evil.example", "/\\evil.example", "https://evil.example", "/a\\b", "/\t/x"])
async def test_signing_in_leads_to_no_other_site(pages: PagesUnderTest, elsewhere: str) -> None:
    """Browsers read a backslash as a slash."""
    assert (await send_key(pages, next_page=elsewhere)).headers["location"] == "/"


async def test_session_ends_for_good(pages: PagesUnderTest) -> None:
    """After signing out its cookie opens nothing, whoever has copied it."""
    await send_key(pages)
    copied = dict(pages.http.cookies)
    token = token_in(await pages.http.get("/new"))
    answer = await pages.http.post("/sign-out", data={"form_token": token}, headers=OWN)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    pages.http.cookies.clear()
    pages.http.cookies.update(copied)
    assert not await is_signed_in(pages)
    assert await actions(pages) == ["session.begin", "session.end"]


@pytest.mark.parametrize("more", [{"Sec-Purpose": "prefetch"}, {"Sec-Fetch-Dest": "empty"}, {"Sec-Fetch-Mode": "cors"}])
async def test_link_that_a_browser_fetches_in_advance_is_not_used(pages: PagesUnderTest, more: dict[str, str]) -> None:
    """A browser that fetches it in advance would use it up; opened by a person on this machine it signs in, once."""
    link = await new_link(pages)
    assert (await pages.http.get(link, headers={**OPENED, **more})).status_code == 200
    assert not await is_signed_in(pages)
    assert (await pages.http.get(link, headers=OPENED)).status_code == 303
    assert await is_signed_in(pages)
    assert (await pages.http.get(link, headers=OPENED)).status_code == 403


async def test_button_of_a_link_needs_its_token_and_works_once(pages: PagesUnderTest) -> None:
    """Another site could send the form of its own link."""
    link = await new_link(pages)
    button = await pages.http.get(link)
    assert (await pages.http.post(link, data={"form_token": ""}, headers=OWN)).status_code == 403
    assert not await is_signed_in(pages)
    fields = {"form_token": token_in(button)}
    assert (await pages.http.post(link, data=fields, headers=OWN)).status_code == 303
    assert await is_signed_in(pages)
    assert (await pages.http.get(link)).status_code == 403


async def test_two_uses_at_once_sign_in_once(pages: PagesUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both find the link unused; the one that ends it later is refused."""
    link = await new_link(pages)

    async def unused(_: object, _id: str) -> bool:
        return False

    monkeypatch.setattr(SqlEndedSignIns, "ended", unused)
    assert (await pages.http.get(link, headers=OPENED)).status_code == 303
    assert (await pages.http.get(link, headers=OPENED)).status_code == 403


async def test_session_ends_after_a_week(pages: PagesUnderTest) -> None:
    """The cookie says so, and so does the token in it."""
    answer = await send_key(pages)
    [session] = [text for text in answer.headers.get_list("set-cookie") if text.startswith("boomerang_session=")]
    assert f"max-age={int(timedelta(days=7).total_seconds())}" in session.lower()


async def test_read_only_caller_changes_nothing_by_a_form(pages: PagesUnderTest) -> None:
    """Its pages have forms with a valid token, such as the one to sign out."""
    answer = await pages.post("/new", "view", model="viduq2_pro_reference", prompt="a cat")
    assert (answer.status_code, "read" in answer.text) == (403, True)
    assert (await pages.post("/sign-out", "view")).status_code == 303
