"""The dashboard in a real browser: signing in, roles, attention, tasks, actions, live updates, and attacks."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING
from urllib.parse import quote

import anyio
import httpx
import pytest

from service.dashboard.formats import ago
from service.domain.ports.queues import ReceiverAnswer
from service.domain.task import Status, TaskError, UpstreamId
from service.storage import open_store
from tests.acceptance.processes import Json
from tests.storage.builders import a_task, add_deliveries, add_tasks, an_attempt, claim_deliveries
from tests.support.dashboard_pages import (
    ADMIN,
    ANN,
    BOB,
    READER,
    DashboardService,
    axe_findings,
    dashboard_service,
    running_browser,
    signed_in,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

XSS = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
FormFields = dict[str, str | float | bool]
PAGES = ["/", "/tasks", "/tasks?status=failed", "/audit"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardService]:
    """Run the service during this module, with an archive and a client that has one task at the provider at once."""
    home = tmp_path_factory.mktemp("dashboard")
    archive = (home / "archive").as_uri()
    limits = {"CLIENT_MAX_IN_FLIGHT": "1000,bob=1"}
    more = {"ARCHIVE_URL": archive, "HANDLERS": "log,webhook,archive", "POLL_FIRST": "500ms", **limits}
    with dashboard_service(home, **more) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Run Chromium during this module."""
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
def completed(service: DashboardService) -> Json:
    """Return a completed task of ann with hostile texts and a dead letter."""
    notify = [{"handler": "webhook", "url": "http://127.0.0.1:59999/nobody", "events": ["task.completed"]}]
    task = service.submit(params={"prompt": f"a cat {XSS}"}, metadata={"note": XSS}, notify=notify)
    return service.delivered(task)


@pytest.fixture(scope="module")
def failed(service: DashboardService) -> Json:
    """Return a failed task of ann."""
    service.set_switches(fail_tasks=1.0)
    task = service.settled(service.submit(params={"prompt": "it fails"}))
    service.set_switches(fail_tasks=0.0)
    return task


@pytest.fixture(scope="module")
def ended(completed: Json, failed: Json) -> list[Json]:
    """Return one task of each end."""
    return [completed, failed]


@pytest.fixture
def slow(service: DashboardService) -> Iterator[DashboardService]:
    """Let new tasks run for a while."""
    service.set_switches(run_time=60.0)
    yield service
    service.set_switches(run_time=0.2)


def link(service: DashboardService, key: str) -> str:
    """Return a new login link for a key."""
    found: str = service.api(key).post("/v1/login-links").raise_for_status().json()["url"]
    return found


class InlineCode(HTMLParser):
    """Collects what a strict policy forbids: scripts and styles in the page, handlers in attributes, such addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one element."""
        names = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in names):
            self.found.append(tag)
        self.found += [name for name in names if name == "style" or name.startswith("on")]
        self.found += [value for value in names.values() if value and value.strip().lower().startswith("javascript:")]


def inline_code(text: str) -> list[str]:
    """Return the inline code of a page."""
    parser = InlineCode()
    parser.feed(text)
    return parser.found


def token_of(page: "Page") -> str:
    """Return the form token of a page."""
    return page.locator("input[name=form_token]").first.input_value()


def until_true(page: "Page", expression: str) -> None:
    """Wait until an expression is true: the page's policy forbids that it is evaluated again in the page itself."""
    deadline = monotonic() + 15
    while not page.evaluate(expression):
        assert monotonic() < deadline, expression
        page.wait_for_timeout(50)


# ── signing in ──────────────────────────────────────────────────────────────


def test_key_signs_in_and_leads_back(service: DashboardService, browser: "Browser") -> None:
    """The page that was asked for opens after signing in; the key is neither in the page nor in a cookie."""
    context = browser.new_context(base_url=service.url)
    page = context.new_page()
    page.goto("/tasks?status=failed")
    assert page.title().startswith("Sign in")
    page.fill("#key", "not-a-key-of-this-service")
    page.click("button.primary")
    assert "not a key" in page.locator("#key-fault").inner_text()
    page.fill("#key", ANN)
    page.click("button.primary")
    page.wait_for_url("**/tasks?status=failed")
    [cookie] = [each for each in context.cookies() if each["name"] == "boomerang_session"]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
    assert ANN not in page.content() + str(context.cookies())
    context.close()


def test_signing_out_ends_the_session(service: DashboardService, browser: "Browser") -> None:
    """After signing out the old cookie is worthless too."""
    with signed_in(browser, service, ANN, own=True) as page:
        cookies = page.context.cookies()
        page.click("text=Sign out")
        page.wait_for_url("**/sign-in")
        page.context.add_cookies([each for each in cookies if each["name"] == "boomerang_session"])  # type: ignore[misc]
        page.goto("/tasks")
        assert page.title().startswith("Sign in")


def test_link_signs_in_once(service: DashboardService, browser: "Browser") -> None:
    """A link of `boomerang login` has the role of its key, works once, and not after another one used it."""
    address = link(service, READER)
    for expected in ("view", "403"):
        context = browser.new_context()
        page = context.new_page()
        page.goto(address)
        if expected == "403":
            assert "was used or is out of date" in page.locator("main").inner_text()
        else:
            assert page.locator(".who").inner_text().split() == ["view", "read-only", "Sign", "out"]
        context.close()


def test_browsers_elsewhere_need_the_button(service: DashboardService, browser: "Browser") -> None:
    """Programs that scan messages are browsers too: behind a proxy a link signs in by its button alone."""
    address = link(service, ANN)
    context = browser.new_context(extra_http_headers={"X-Forwarded-For": "203.0.113.9"})
    page = context.new_page()
    page.goto(address)
    assert page.locator(".who").count() == 0
    page.click("button.primary")
    assert page.locator(".who .name").inner_text() == "ann"
    context.close()


def test_programs_do_not_use_a_link_up(service: DashboardService, browser: "Browser") -> None:
    """A chat that looks at the link for a preview gets a page with a button; the person still gets in."""
    address = link(service, ANN)
    for _ in range(2):
        assert "works once" in httpx.get(address, trust_env=False).text
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    assert page.locator(".who .name").inner_text() == "ann"
    context.close()


def test_forged_links_and_sessions_are_refused(service: DashboardService) -> None:
    """A changed token of a link or a session opens nothing."""
    address = link(service, ADMIN)
    assert httpx.get(f"{address[:-2]}AA", trust_env=False).status_code == 403
    token = address.rpartition("/")[2]  # valid, for another purpose
    cookies = {"boomerang_session": token}
    assert httpx.get(f"{service.url}/tasks", cookies=cookies, trust_env=False).status_code == 303
    assert httpx.get(f"{service.url}/v1/tasks", cookies=cookies, trust_env=False).status_code == 401


# ── roles, CSRF and policies ────────────────────────────────────────────────


def test_forms_of_other_sites_are_refused(service: DashboardService, browser: "Browser", completed: Json) -> None:
    """A form without our token, with that of another session, or from another origin changes nothing."""
    address = f"/tasks/{completed['id']}/cancel"
    with signed_in(browser, service, ANN) as page, signed_in(browser, service, BOB) as other:
        page.goto(f"/tasks/{completed['id']}")
        other.goto("/tasks")
        own, foreign = token_of(page), token_of(other)
        send = page.context.request.post
        attempts: list[tuple[FormFields, dict[str, str]]] = [
            ({}, {}),
            ({"form_token": foreign}, {}),
            ({"form_token": own}, {"Origin": "https://evil.example"}),
            ({"form_token": own}, {"Sec-Fetch-Site": "cross-site"}),
        ]
        for form, headers in attempts:
            response = send(address, form=form, headers=headers)
            assert response.status == 403, (form, headers)
        assert send(address, form={"form_token": own}).status == 409  # it is settled: the token was accepted


def test_session_changes_nothing_over_the_api(service: DashboardService, browser: "Browser", completed: Json) -> None:
    """A session reads the API, and changes need a key: no page of another site can use the cookie for one."""
    with signed_in(browser, service, ANN) as page:
        request = page.context.request
        assert request.get(f"/v1/tasks/{completed['id']}").ok
        assert request.post(f"/v1/tasks/{completed['id']}/cancel").status == 401
        assert request.delete(f"/v1/tasks/{completed['id']}").status == 401


def test_clients_see_only_their_own(service: DashboardService, browser: "Browser", completed: Json) -> None:
    """Bob finds nothing of ann's: page, inputs, list and actions; the audit log is for those who see all."""
    with signed_in(browser, service, BOB) as page:
        page.goto("/tasks?client=ann")
        assert completed["id"] not in page.content()
        for path in (f"/tasks/{completed['id']}", f"/tasks/{completed['id']}/inputs/images.0"):
            assert page.context.request.get(path).status == 404
        assert page.context.request.get("/audit").status == 403
        form: FormFields = {"form_token": token_of(page), "action": "replay", "task": completed["id"]}
        page.context.request.post("/tasks/bulk/run", form=form)
    history = service.api(ANN).get(f"/v1/tasks/{completed['id']}/events").json()["data"]
    assert not [each for each in history if each["kind"] == "delivery" and each["status"] == "pending"]


def test_readers_see_all_and_change_nothing(service: DashboardService, browser: "Browser", completed: Json) -> None:
    """A read-only session shows every task without an action, and actions are refused."""
    with signed_in(browser, service, READER) as page:
        page.goto(f"/tasks/{completed['id']}")
        assert page.locator("text=with edits").count() == 0
        assert page.locator("button:has-text('Replay')").count() == 0
        form: FormFields = {"form_token": token_of(page)}
        for path in ("cancel", "resubmit", "replay"):
            assert page.context.request.post(f"/tasks/{completed['id']}/{path}", form=form).status == 403
        assert page.context.request.post("/tasks/bulk/run", form=form).status == 403
        page.goto("/audit")
        assert page.locator("h1").inner_text() == "Audit log"


@pytest.mark.parametrize("path", PAGES)
def test_policy_of_pages(service: DashboardService, path: str) -> None:
    """Pages load nothing from elsewhere, run no inline script, and are neither framed nor stored."""
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {ADMIN}"}, trust_env=False) as http:
        response = http.get(path)
        policy = response.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "default-src 'none'" in policy
        assert response.headers["cache-control"] == "no-store"
        assert inline_code(response.text) == []
        for address in re.findall(r'(?:src|href)="(/assets/[^"]+)"', response.text):
            asset = http.get(address)
            assert "immutable" in asset.headers["cache-control"]
            again = http.get(address, headers={"If-None-Match": asset.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")


def test_pages_are_json_too(service: DashboardService, completed: Json) -> None:
    """Each page is data for programs, by `format=json` or by Accept."""
    admin = service.api(ADMIN)
    for path in PAGES:
        joined = f"{path}{'&' if '?' in path else '?'}format=json"
        assert admin.get(joined).json().keys() == admin.get(path, headers={"Accept": "application/json"}).json().keys()
    found = admin.get(f"/tasks/{completed['id']}?format=json", follow_redirects=True).json()
    assert found["id"] == completed["id"]


# ── one task ────────────────────────────────────────────────────────────────


def test_page_of_a_task(service: DashboardService, browser: "Browser", completed: Json) -> None:
    """Its video plays, its time line has everything, attempts open, and hostile texts stay texts."""
    with signed_in(browser, service, ANN) as page:
        page.goto(f"/tasks/{completed['id']}")
        video = page.locator("video").first
        until_true(page, "document.querySelector('video')?.readyState >= 1")
        assert video.evaluate("element => element.duration") > 0
        assert XSS in page.locator("h1").inner_text()
        assert XSS in page.locator("section[aria-labelledby=metadata] pre").inner_text().replace('\\"', '"')
        text = page.locator(".timeline").inner_text()
        for words in ("Task stored for ann", "Callback accepted", "Completed", "Delivery of task.completed by webhook"):
            assert words in text
        page.wait_for_selector(".state.dead", timeout=15_000)
        page.locator("summary:has-text('attempt')").last.click()
        assert "Attempt 1" in page.locator(".attempt").last.inner_text() + page.locator(".timeline").inner_text()
        assert ANN not in page.content()


def test_copy_buttons(service: DashboardService, browser: "Browser", completed: Json) -> None:
    """The curl command names the key's variable, never a key."""
    with signed_in(browser, service, ANN) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.goto(f"/tasks/{completed['id']}")
        copied = {}
        for name in ("id", "JSON", "curl"):
            page.click(f"button:text-is('Copy {name}')")
            page.locator(f"#status:has-text('{name}')").wait_for(state="attached")
            copied[name] = page.evaluate("navigator.clipboard.readText()")
    assert copied["id"] == completed["id"]
    assert f'"id": "{completed["id"]}"' in copied["JSON"]
    assert copied["curl"].startswith('curl -H "Authorization: Bearer $BOOMERANG_API_KEY" ')


@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
def test_failed_task_is_submitted_again(
    service: DashboardService, browser: "Browser", failed: Json, script: bool
) -> None:
    """The error is in plain words with what to do; submitting it again leads to the new task, also without script."""
    with signed_in(browser, service, ANN, script=script) as page:
        page.goto(f"/tasks/{failed['id']}")
        assert "What to do:" in page.locator(".advice").inner_text()
        page.locator("summary:has-text('Submit again')").click()
        page.click("details[open] button.primary")
        page.wait_for_url(lambda url: failed["id"] not in url)
        assert "submitted again" in page.locator(".notice").first.inner_text()
        assert page.locator(f"a:has-text('{failed['id']}')").count() == 1
    entries = service.api(ADMIN).get(f"/audit?target={failed['id']}&format=json").json()["data"]
    assert (entries[0]["actor"], entries[0]["action"], entries[0]["road"]) == ("ann", "task.resubmit", "dashboard")


def test_running_task_is_canceled_or_the_reason_is_shown(slow: DashboardService, browser: "Browser") -> None:
    """The result of the action, or the reason against it, is on the next page."""
    task = slow.submit(params={"prompt": "stop me"})
    with signed_in(browser, slow, ANN) as page:
        page.goto(f"/tasks/{task['id']}")
        page.locator("summary:has-text('Cancel')").click()
        with page.expect_navigation():
            page.click("details[open] button.danger")
        text = page.locator("main").inner_text()
    status = slow.api(ANN).get(f"/v1/tasks/{task['id']}").json()["status"]
    assert ("canceled" in text) if status == "canceled" else ("cancel" in text)


def test_task_is_erased(service: DashboardService, browser: "Browser") -> None:
    """What a task contains is gone after a confirmation, and its page says so."""
    task = service.delivered(service.submit(params={"prompt": "a private matter"}))
    with signed_in(browser, service, ANN) as page:
        page.goto(f"/tasks/{task['id']}")
        page.locator("summary:has-text('Erase')").click()
        with page.expect_navigation():
            page.click("details[open] button.danger")
        assert "It was erased" in page.locator("main").inner_text()
        assert "a private matter" not in page.content()
        assert page.locator("summary:has-text('Erase')").count() == 0


def test_many_tabs_share_one_stream(service: DashboardService, browser: "Browser", completed: Json) -> None:
    """A browser opens six connections to a service: tabs of lists use one of them, and the ninth still opens."""
    with signed_in(browser, service, ANN) as first:
        pages = [first, *(first.context.new_page() for _ in range(8))]
        for page in pages:
            page.goto("/tasks", timeout=10_000)
        task = service.submit(params={"prompt": "seen by all"})
        for page in (pages[0], pages[-1]):
            page.wait_for_selector("#newer:visible", timeout=15_000)
        assert task["id"] != completed["id"]


def test_dead_letter_is_replayed(service: DashboardService, browser: "Browser", completed: Json) -> None:
    """A client replays what its own notify asked for, and comes back to the time line."""
    with signed_in(browser, service, ANN) as page:
        page.goto(f"/tasks/{completed['id']}")
        page.wait_for_selector(".state.dead", timeout=15_000)
        with page.expect_navigation():
            page.locator("button:has-text('Replay')").first.click()
        assert "tried again now" in page.locator(".notice").first.inner_text()


# ── texts from elsewhere ────────────────────────────────────────────────────

HANDLER = f"h{XSS}"


async def _store_hostile_rows(database: Path, task_id: str) -> None:
    """Store a task and a dead letter of which every text was written by somebody else."""
    now = datetime.now(UTC)
    task = a_task(
        task_id,
        client="ann",
        model=f"m{XSS}",
        status=Status.FAILED,
        submission=1,
        created_at=now,
        submitted_at=now,
        settled_at=now,
        upstream_id=UpstreamId(XSS),
        params={"prompt": XSS, XSS: XSS, "images": [f"https://example.org/{XSS}"]},
        metadata={XSS: {"javascript:alert(3)": [XSS]}},
        warnings=(XSS,),
        error=TaskError(code=XSS, message=f"policy {XSS}"),
        output=(
            {"type": XSS, "url": "javascript:alert(4)", "archived_url": f"file:///{XSS}.mp4", "bytes": 7},
            {"type": "image", "url": f"https://example.org/{XSS}", "archived_url": "javascript:alert(5)"},
        ),
    )
    async with open_store(f"sqlite:///{database}") as store:
        await add_tasks(store, task)
        await add_deliveries(store, HANDLER, events=[f"e-{task_id}"], task_id=task_id)
        [claim] = await claim_deliveries(store, HANDLER, now=now)
        answer = ReceiverAnswer(status=500, body=XSS)
        dead = an_attempt(claim, "dead", error=XSS, fault="destination", end_reason=XSS, answer=answer)
        await store.deliveries.finish([replace(dead, started_at=now, finished_at=now)])


def test_texts_from_elsewhere_stay_texts(service: DashboardService, browser: "Browser") -> None:
    """Whatever a provider, receiver, client or address writes: no element comes of it, and the policy has no violation.

    That is its words, names of files, errors of handlers, headers, models and keys of metadata.
    """
    with ThreadPoolExecutor(1) as pool:  # the browser's own loop runs in this thread
        pool.submit(anyio.run, _store_hostile_rows, service.home / "boomerang.db", "hostile-1").result()
    endpoint = {"url": f"https://example.org/{quote(XSS)}", "description": XSS, "headers": {"X-Odd": XSS}}
    created = service.api().post("/v1/endpoints", json=endpoint).raise_for_status().json()
    query = quote(XSS)
    paths = [
        "/",
        "/tasks",
        "/tasks/hostile-1",
        "/deliveries",
        "/deliveries?status=all",
        "/endpoints",
        "/health",
        "/audit",
    ]
    paths += [f"/endpoints/{created['id']}", f"/endpoints/{created['id']}/remove", "/new?from=hostile-1"]
    paths += [f"/tasks?q={query}&model={query}", f"/audit?actor={query}", f"/deliveries?handler={query}"]
    paths += [
        f"/tasks/{query}",
        f"/new?model={query}",
        f"/nowhere/{query}",
        f"/sign-in?next={query}",
        "/deliveries/handlers",
    ]
    violations = list[str]()
    with signed_in(browser, service, ADMIN) as page:
        page.on("console", lambda line: violations.append(line.text) if "Security Policy" in line.text else None)
        shown = set()
        for path in paths:
            page.goto(path)
            page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
            elements = page.evaluate(
                "document.querySelectorAll('img[src=x], main script, [onerror], a[href^=javascript]').length"
            )
            assert elements == 0, path
            shown.add(path) if XSS in page.locator("body").inner_text() else None
        assert {"/", "/tasks", "/tasks/hostile-1", "/deliveries", "/endpoints", f"/endpoints/{created['id']}"} <= shown
    assert violations == []


# ── the list ────────────────────────────────────────────────────────────────


def test_filters_are_addresses(service: DashboardService, browser: "Browser", completed: Json, failed: Json) -> None:
    """A filter is in the address, has its count, and "back" returns to the list before."""
    with signed_in(browser, service, ANN) as page:
        page.goto("/tasks")
        page.click(".tabs a:has-text('failed')")
        page.wait_for_url("**/tasks?status=failed")
        assert failed["id"] in page.content()
        assert completed["id"] not in page.content()
        page.select_option("#model", "viduq2_pro_reference")
        page.click("button:text-is('Search')")
        page.wait_for_url(re.compile("status=failed.*model=viduq2_pro_reference"))
        page.go_back()
        page.go_back()
        assert page.url.endswith("/tasks")
        assert completed["id"] in page.content()


def test_search_finds_by_words_and_ids(service: DashboardService, browser: "Browser", failed: Json) -> None:
    """A task is found by its id, its id at the provider, and words of its prompt; the search stays in the address."""
    task = service.settled(service.submit(params={"prompt": "seventeen narwhals"}, metadata={"order": "A-1001"}))
    with signed_in(browser, service, ANN) as page:
        for text in (task["id"], task["upstream_id"], "narwhals seventeen", "metadata.order=A-1001"):
            page.goto("/tasks")
            page.fill("#q", text)
            page.click("button:text-is('Search')")
            assert task["id"] in page.content(), text
            assert failed["id"] not in page.content()
            assert "q=" in page.url
    with signed_in(browser, service, BOB) as page:
        page.goto("/tasks?q=narwhals")
        assert task["id"] not in page.content()


@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
def test_selection_is_counted_confirmed_and_done(service: DashboardService, browser: "Browser", script: bool) -> None:
    """An action on a selection says how many first, and afterwards what became of each."""
    service.set_switches(fail_tasks=1.0)
    tasks = [service.settled(service.submit(params={"prompt": f"bulk {number}"})) for number in range(2)]
    service.set_switches(fail_tasks=0.0)
    with signed_in(browser, service, ANN, script=script) as page:
        page.goto("/tasks?status=failed")
        for task in tasks:
            page.check(f"input[value='{task['id']}']")
        page.click("button[value=resubmit]")
        assert page.locator("h1").inner_text() == "Submit again: 2 tasks?"
        assert not script or axe_findings(page) == []
        page.click("button.primary")
        page.wait_for_selector("text=Back to the list")
        assert page.locator("dd strong").inner_text() == "2"
        assert not script or axe_findings(page) == []
    entry = service.api(ADMIN).get("/audit?action=task.resubmit_many&format=json").json()["data"][0]
    assert entry["detail"].startswith("2 submitted again of 2 tasks")


def test_all_that_match_are_acted_on(slow: DashboardService, browser: "Browser") -> None:
    """All that match a filter are counted and canceled; a later one and those of other clients are not."""
    wait_for_status(slow, slow.submit(BOB, params={"prompt": "in flight"}), "in_progress")  # so that the next ones wait
    own = [slow.submit(BOB, params={"prompt": f"bulkhead {number}"}) for number in range(3)]
    other = slow.submit(params={"prompt": "bulkhead of ann"})
    with signed_in(browser, slow, BOB) as page:
        page.goto("/tasks?q=bulkhead")
        page.select_option("#scope", "all")
        page.click("button[value=cancel]")
        assert page.locator("h1").inner_text() == "Cancel: 3 tasks?"
        later = slow.submit(BOB, params={"prompt": "bulkhead later"})
        page.click("button.primary")
        page.wait_for_selector("text=Back to the list")
        assert "3 of 3" in page.inner_text("main")
        assert page.locator("dd").all_inner_texts() == ["3", "0", "0"]
    assert [status_of(slow, task) for task in own] == ["canceled"] * 3
    assert status_of(slow, later) == "queued"
    wait_for_status(slow, other, "in_progress")


def status_of(service: DashboardService, task: Json) -> str:
    """Return the status that a task has now."""
    found: str = service.api(ADMIN).get(f"/v1/tasks/{task['id']}").raise_for_status().json()["status"]
    return found


def wait_for_status(service: DashboardService, task: Json, status: str) -> None:
    """Wait until a task has a status."""
    deadline = monotonic() + 20
    while (found := status_of(service, task)) != status:
        assert monotonic() < deadline, found
        sleep(0.05)


def test_nothing_selected_is_a_notice(service: DashboardService, browser: "Browser", completed: Json) -> None:
    """An action on nothing is no action on everything."""
    assert completed["status"] == "completed"
    with signed_in(browser, service, ANN) as page:
        page.goto("/tasks")
        page.click("button[value=resubmit]")
        assert "Select tasks first" in page.locator(".notice").inner_text()


# ── live ────────────────────────────────────────────────────────────────────


def test_live_update_changes_cells_and_moves_nothing(slow: DashboardService, browser: "Browser") -> None:
    """A status changes in its row and is announced; a new task is announced and adds no row; focus stays."""
    slow.set_switches(run_time=3.0)
    task = slow.submit(params={"prompt": "watch me"})
    with signed_in(browser, slow, ANN) as page:
        page.goto("/tasks")
        rows = page.locator("tbody tr").count()
        page.focus("#model")
        slow.submit(params={"prompt": "another"})
        page.wait_for_selector("#newer:visible", timeout=15_000)
        page.wait_for_selector(f"[data-row='{task['id']}'] .state.completed", timeout=20_000)
        assert page.locator("tbody tr").count() == rows
        assert page.evaluate("document.activeElement.id") == "model"
        assert page.locator("[role=status]").count() == 1
        page.click("#newer")
        page.wait_for_selector("text=another")


def test_updates_can_be_paused(slow: DashboardService, browser: "Browser") -> None:
    """Paused, nothing changes until the button is pressed again."""
    with signed_in(browser, slow, ANN) as page:
        page.goto("/tasks")
        page.click("#live")
        assert page.inner_text("#live") == "Resume updates"
        slow.set_switches(run_time=0.2)
        slow.settled(slow.submit(params={"prompt": "unseen"}))
        page.wait_for_timeout(1500)
        assert not page.locator("#newer").is_visible()
        page.click("#live")
        page.wait_for_selector("#newer:visible", timeout=15_000)


GROW_FIRST = """() => {
  const row = [...document.querySelectorAll("tbody tr")].at(-1), page = document.documentElement.cloneNode(true);
  page.querySelector("[data-cell=note]").textContent = "a long note ".repeat(80);
  const before = row.getBoundingClientRect().top;
  show(page.outerHTML);
  return [row.getBoundingClientRect().top - before, document.querySelector("[data-cell=note]").textContent.length];
}"""


def test_opened_attempts_are_no_news(service: DashboardService, browser: "Browser", completed: Json) -> None:
    """A page in which somebody opened something is not fetched again and again: it shows what is served."""
    with signed_in(browser, service, ANN) as page:
        page.goto(f"/tasks/{completed['id']}")
        page.click("#live")  # of what happens elsewhere there are no updates
        page.locator("details.attempts summary").first.click()
        page.evaluate("window.fetched = 0; changed = () => { fetched += 1; }; PAUSE")
        page.evaluate("fetch(location.href).then((response) => response.text()).then(show)")
        page.wait_for_timeout(3500)
        assert page.locator("details.attempts[open]").count() == 1
        assert page.evaluate("fetched") == 0


def test_row_under_the_pointer_stays_there(
    service: DashboardService, browser: "Browser", completed: Json, failed: Json
) -> None:
    """A row above it that grows by a note moves the page; what somebody selects is left alone until later."""
    assert completed["id"] != failed["id"]
    with signed_in(browser, service, ANN, phone=True) as page:
        page.goto("/tasks")
        page.locator("tbody tr").last.hover()
        moved, length = page.evaluate(GROW_FIRST)
        assert (abs(moved) < 1, length > 500) == (True, True)
        page.goto("/tasks")
        page.evaluate("getSelection().selectAllChildren(document.querySelector('main'))")
        assert page.evaluate(GROW_FIRST)[1] < 500


def test_pause_is_for_all_tabs(service: DashboardService, browser: "Browser", completed: Json) -> None:
    """The button of each says what holds; so does that of a tab which was open before."""
    with signed_in(browser, service, ANN) as page:
        other = page.context.new_page()
        for each in (page, other):
            each.goto("/tasks")
        page.click("#live")
        other.locator("#live:has-text('Resume updates')").wait_for()
        other.click("#live")
        page.locator("#live:has-text('Pause updates')").wait_for()
        assert completed["id"] in page.content()


def test_stream_is_opened_again_after_a_proxy_answered(service: DashboardService, browser: "Browser") -> None:
    """A proxy answers 502 while the service restarts, which ends a stream for good; a wrong clock changes no age."""
    service.settled(service.submit(params={"prompt": "before the restart"}))
    with signed_in(browser, service, ANN) as page:
        page.clock.install(time=datetime.now(UTC) + timedelta(hours=5))
        page.route("**/v1/events*", lambda route: route.fulfill(status=502, body="Bad Gateway"))
        with page.expect_request("**/v1/events*"):
            page.goto("/tasks")
        page.wait_for_timeout(300)
        page.unroute("**/v1/events*")
        with page.expect_request("**/v1/events*"):
            page.clock.run_for(11_000)
        assert " h" not in page.locator("tbody td.when").first.inner_text()
        service.submit(params={"prompt": "after the restart"})
        for _ in range(50):
            page.clock.run_for(1000)
            if page.locator("#newer").is_visible():
                break
            page.wait_for_timeout(100)
        assert page.locator("#newer").is_visible()


def test_relative_times_are_those_of_the_service(service: DashboardService, browser: "Browser") -> None:
    """What the script keeps current is what the page had when it was served."""
    with signed_in(browser, service, ANN) as page:
        page.goto("/tasks")
        for seconds in (30.5, 59.5, 3599.5, 3660.5, 7139.5, 86_399.5, 90_000.5, 200_000.5):
            now = datetime.now(UTC)
            text = page.evaluate(
                "ms => relative({ dateTime: new Date(Date.now() - skew - ms) })", round(seconds * 1000)
            )
            assert text == ago(now - timedelta(seconds=seconds), now)


def test_status_shows_that_the_session_has_ended(service: DashboardService, browser: "Browser") -> None:
    """Signed out in another tab: the next update says so, and what is shown stays."""
    with signed_in(browser, service, ANN) as page:
        page.goto("/tasks")
        page.context.clear_cookies()
        page.evaluate("changed()")
        page.locator("#status:has-text('You are signed out')").wait_for(timeout=15_000)
        assert page.locator("h1").inner_text() == "Tasks"


# ── form ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, True)], ids=["wide light", "phone dark"])
def test_axe_and_width(
    service: DashboardService, browser: "Browser", ended: list[Json], *, phone: bool, dark: bool
) -> None:
    """axe-core finds nothing on any page, and no page is wider than a phone, also with a font of twice the size."""
    with signed_in(browser, service, ADMIN, phone=phone, dark=dark) as page:
        for path in [
            "/",
            "/tasks",
            "/audit",
            *(f"/tasks/{task['id']}" for task in ended),
            "/tasks/nothing",
            "/no-page",
        ]:
            page.goto(path)
            page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            assert axe_findings(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            page.evaluate("document.documentElement.style.fontSize = '200%'")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} with a large font"


def test_lists_fit_paper(service: DashboardService, browser: "Browser", completed: Json) -> None:
    """Times are absolute on paper; they are within the page, and what can only be pressed or selected is left out."""
    with signed_in(browser, service, ADMIN) as page:
        page.set_viewport_size({"width": 720, "height": 1000})
        page.emulate_media(media="print")
        for path in ("/tasks", "/deliveries?status=all&handler=webhook"):
            page.goto(path)
            assert page.locator("main time").count() >= 1, f"{path} has a row: {completed['id']} or a later one"
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            assert page.locator("main input:visible, main button:visible, main select:visible").count() == 0, path


def test_sign_in_page_has_no_findings(service: DashboardService, browser: "Browser") -> None:
    """axe-core finds nothing on the page to sign in, before and after a wrong key."""
    context = browser.new_context(base_url=service.url)
    page = context.new_page()
    page.goto("/sign-in")
    assert axe_findings(page) == []
    page.fill("#key", "wrong-key-1234")
    page.click("button.primary")
    assert axe_findings(page) == []
    context.close()
