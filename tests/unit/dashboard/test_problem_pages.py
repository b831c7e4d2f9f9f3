"""Problems in a browser: pages with the frame of the dashboard, where programs get JSON."""

import httpx
import pytest

from service.dashboard import layout
from service.dashboard.audit import AuditPage
from tests.unit.dashboard.conftest import PagesUnderTest

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
PROBLEM_JSON = "application/problem+json"


def kind_of(answer: httpx.Response) -> str:
    """Return the media type of an answer."""
    return answer.headers["content-type"].partition(";")[0]


@pytest.mark.parametrize("path", ["/no-such-page", "/tasks/a/b/c", "/links/forged", "/v1x", "/favicon.html"])
async def test_unknown_address_is_a_page_for_a_browser(pages: PagesUnderTest, path: str) -> None:
    """Signed in with the navigation, signed out without it; as a program asks, it is a problem as before."""
    known, unknown = await pages.get(path, **BROWSER), await pages.http.get(path, headers=BROWSER)
    for answer in (known, unknown):
        assert kind_of(answer) == "text/html"
        assert answer.status_code in {404, 503}
        assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]
    assert ("<nav" in known.text) is not path.startswith("/links/")
    assert "<nav" not in unknown.text
    for accept in ("*/*", "application/json"):
        assert kind_of(await pages.get(path, Accept=accept)) == PROBLEM_JSON


@pytest.mark.parametrize(
    "path", ["/v1/nothing", "/v1", "/model/v1/nothing", "/api/v1/skill/nothing", "/mcp", "/mcp/x", "/callbacks/a/b"]
)
async def test_addresses_for_programs_answer_with_json(pages: PagesUnderTest, path: str) -> None:
    """A client that accepts everything, pages too, keeps its errors."""
    answer = await pages.get(path, **BROWSER)
    assert answer.status_code >= 400
    assert "json" in kind_of(answer)


async def test_method_of_a_form_is_a_page_with_the_allowed_ones(pages: PagesUnderTest) -> None:
    """Someone who types the address of an action, or reloads after it, reads what is wrong."""
    answer = await pages.get("/tasks/task-1/cancel", **BROWSER)
    assert (answer.status_code, kind_of(answer)) == (405, "text/html")
    assert "POST" in answer.headers["allow"]
    assert "Not possible at this address" in answer.text
    assert '<a class="button" href="/tasks/task-1">Back</a>' in answer.text
    form = {"Origin": "http://127.0.0.1", **BROWSER, "Authorization": "Bearer admin-key-of-tests"}
    assert kind_of(await pages.http.post("/health", headers=form)) == "text/html"


async def test_page_that_needs_a_key_leads_to_the_sign_in(pages: PagesUnderTest) -> None:
    """The documentation is read in a browser, too: it opens after signing in."""
    answer = await pages.http.get("/docs", headers=BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Fdocs")
    assert (await pages.http.get("/docs")).status_code == 401
    assert (await pages.get("/docs", **BROWSER)).status_code == 200


async def test_internal_error_is_a_page_with_its_id(pages: PagesUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message of the error stays in the process, and the id leads to the line in the log."""

    async def fail(*_: object) -> None:
        raise RuntimeError("password=secret")

    monkeypatch.setattr(AuditPage, "show", fail)
    answer = await pages.get("/audit", **BROWSER)
    assert (answer.status_code, kind_of(answer)) == (500, "text/html")
    assert "secret" not in answer.text
    assert "Something failed here" in answer.text


async def test_page_that_cannot_be_made_is_a_problem(pages: PagesUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is broken may be the template: there is an answer in any case."""

    def fail(*_: object, **__: object) -> str:
        raise RuntimeError("password=secret")

    monkeypatch.setattr(layout, "render", fail)
    answer = await pages.get("/no-such-page", **BROWSER)
    assert (answer.status_code, kind_of(answer)) == (500, PROBLEM_JSON)
    assert "secret" not in answer.text
