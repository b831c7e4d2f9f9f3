"""Deliveries, endpoints, handlers and health in a real browser: replays, secrets, pauses, plots."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import pytest

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


class Receiver(ThreadingHTTPServer):
    """Answers every webhook with `status`, and remembers the addresses and headers that it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.status = 200
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[str] = []

    def url(self, path: str) -> str:
        """Return an address of it."""
        return f"http://127.0.0.1:{self.server_address[1]}/{path}"


class Answer(BaseHTTPRequestHandler):
    """Answers one webhook."""

    server: Receiver

    def do_POST(self) -> None:
        """Answer with the status of the receiver, and a body that is markup."""
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])).decode())
        self.server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(XSS.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """Log nothing."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """Run a receiver of webhooks during this module."""
    with Receiver() as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardService]:
    """Run the service during this module; a delivery that fails once is a dead letter."""
    with dashboard_service(tmp_path_factory.mktemp("deliveries"), RETRY_SCHEDULE="0s") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Run Chromium during this module."""
    with running_browser() as found:
        yield found


def wait_for(service: DashboardService, count: int, *, status: str = "dead", key: str = ANN) -> list[dict[str, Any]]:
    """Wait until a client has so many deliveries with a status, and return them."""
    until = monotonic() + 30
    while True:
        found: list[dict[str, Any]] = service.api(key).get("/v1/deliveries", params={"status": status}).json()["data"]
        if len(found) >= count:
            return found
        assert monotonic() < until, f"{len(found)} of {count} deliveries are {status}"
        sleep(0.05)


def dead_letters(service: DashboardService, receiver: Receiver, count: int, *, key: str = ANN) -> list[dict[str, Any]]:
    """Make dead letters of one client, and return all that it has."""
    before = len(service.api(key).get("/v1/deliveries", params={"status": "dead"}).json()["data"])
    receiver.status = 503
    for _ in range(count):
        entry = {"handler": "webhook", "url": receiver.url("hook"), "events": ["task.completed"]}
        service.submit(key, notify=[entry], metadata={"note": XSS})
    found = wait_for(service, before + count, key=key)
    receiver.status = 200
    return found


def test_dead_letters_come_first_with_their_attempts(
    service: DashboardService, receiver: Receiver, browser: "Browser"
) -> None:
    """Each shows status, error and answer as text; filters are in the address."""
    [*_, first] = dead_letters(service, receiver, 1)
    with signed_in(browser, service, ANN, phone=True) as page:
        page.goto("/deliveries")
        row = page.locator(f"[data-row='{first['id']}']")
        row.locator("summary").click()
        text = row.inner_text()
        assert "HTTP 503" in text
        assert "dead letter" in text
        assert XSS in text
        assert axe_findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.goto("/deliveries?handler=log&status=delivered")
        assert page.input_value("#handler") == "log"
        found = page.request.get("/deliveries?format=json").json()
        assert found["data"][-1]["last_attempts"][0]["answer_status"] == 503


def test_time_line_shows_the_request_that_was_sent(
    service: DashboardService, receiver: Receiver, browser: "Browser"
) -> None:
    """Line, headers and body are those that the receiver got, byte by byte but for the signature and the time."""
    receiver.requests, receiver.bodies = [], []
    entry = {"handler": "webhook", "url": receiver.url("seen/here"), "events": ["task.completed"]}
    task = service.delivered(service.submit(notify=[entry], metadata={"note": XSS}, params={"payload": "ünïcode"}))
    with signed_in(browser, service, ANN, script=False) as page:
        page.goto(f"/tasks/{task['id']}")
        page.locator("li.step", has_text="task.completed by webhook").locator("summary").click()
        shown = page.locator("pre", has_text="POST http").inner_text()
    head, _, body = shown.partition("\n\n")
    line, *headers = head.splitlines()
    [(path, sent)], [sent_body] = receiver.requests, receiver.bodies
    assert (line, body) == (f"POST {receiver.url('seen/here')}", sent_body)
    assert path == "/seen/here"
    pairs = dict(each.split(": ", 1) for each in headers)
    assert pairs.keys() == sent.keys() - {"host", "content-length", "accept", "connection"}
    for name in pairs.keys() - {"webhook-timestamp", "webhook-signature"}:
        assert pairs[name] == sent[name]


def test_list_is_updated_in_place(service: DashboardService, receiver: Receiver, browser: "Browser") -> None:
    """What becomes of a delivery shows in its row without a reload, unless updates are paused; no row is added."""
    [dead, *_] = dead_letters(service, receiver, 1)
    with signed_in(browser, service, ANN) as page:
        page.clock.install()
        page.goto("/deliveries?status=all")
        row = page.locator(f"[data-row='{dead['id']}'] [data-cell=status]")
        rows = page.locator("tbody tr").count()
        assert row.locator(".state.dead").count() == 1
        page.click("#live")
        service.api(ANN).post(f"/v1/deliveries/{dead['id']}/replay").raise_for_status()
        service.delivered({"id": dead["task_id"]})
        page.clock.run_for(21_000)
        assert row.locator(".state.dead").count() == 1
        page.click("#live")
        page.clock.run_for(11_000)
        row.locator(".state.delivered").wait_for()
        assert page.locator("tbody tr").count() == rows


def test_one_dead_letter_is_replayed_without_a_script(
    service: DashboardService, receiver: Receiver, browser: "Browser"
) -> None:
    """A press tries it again, returns to the same list, and is in the audit log."""
    [newest, *_] = dead_letters(service, receiver, 1)
    with signed_in(browser, service, ANN, script=False) as page:
        page.goto("/deliveries?status=dead&handler=webhook")
        page.locator(f"[data-row='{newest['id']}'] button.small:not(.copy)").click()
        assert "is tried again now" in page.locator(".notice").inner_text()
        assert page.url.endswith("/deliveries?handler=webhook")
    until = monotonic() + 30
    while service.api().get(f"/v1/deliveries/{newest['id']}").json()["status"] != "delivered":
        assert monotonic() < until
    assert audit(service, browser, newest["id"]) == [("ann", "delivery.replay")]


def audit(service: DashboardService, browser: "Browser", target: str) -> list[tuple[str, str]]:
    """Return who did what to a target, newest first."""
    with signed_in(browser, service, ADMIN) as page:
        entries = page.request.get(f"/audit?target={target}&format=json").json()["data"]
    return [(entry["actor"], entry["action"]) for entry in entries]


def test_selection_is_counted_confirmed_and_replayed(
    service: DashboardService, receiver: Receiver, browser: "Browser"
) -> None:
    """Of a selection with another client's delivery only the own ones are counted and replayed."""
    own = dead_letters(service, receiver, 2)[:2]
    other = dead_letters(service, receiver, 1, key=BOB)[0]
    with signed_in(browser, service, ANN, script=False) as page:
        page.goto("/deliveries")
        for each in own:
            page.locator(f"[data-row='{each['id']}'] input[type=checkbox]").check()
        page.click("text=Replay the selected…")
        assert page.locator(".figure").inner_text().startswith("2")
        page.goto(f"{page.url}&delivery={other['id']}")
        assert page.locator(".figure").inner_text().startswith("2")
        page.click("button:has-text('Replay 2')")
        assert "2 of 3 deliveries are tried again" in page.locator(".notice").inner_text()
    assert service.api(BOB).get(f"/v1/deliveries/{other['id']}").json()["status"] == "dead"


def test_all_that_match_are_counted_narrowed_and_replayed(
    service: DashboardService, receiver: Receiver, browser: "Browser"
) -> None:
    """The count follows the filters; confirming replays them, and nothing of another client."""
    dead_letters(service, receiver, 1, key=BOB)
    dead_letters(service, receiver, 2)
    dead = len(service.api().get("/v1/deliveries", params={"status": "dead"}).json()["data"])
    with signed_in(browser, service, ANN, script=False) as page:
        page.goto("/deliveries")
        page.click("text=Replay all that match…")
        assert page.locator(".figure strong").inner_text() == str(dead)
        page.fill("#receiver", "hooks.example.org")
        page.click("text=Count again")
        assert page.locator(".figure strong").inner_text() == "0"
        page.fill("#receiver", "127.0.0.1")
        page.fill("#since", "2020-01-01T00:00")
        page.click("text=Count again")
        assert axe_findings_without_script(browser, service, page.url) == []
        page.click(f"button:has-text('Replay {dead}')")
        assert f"{dead} deliveries are tried again" in page.locator(".notice").inner_text()
        headers = {"Origin": service.url}
        for query in ("delivery=%00", "delivery=%F0%9F%98%80", "since=0001-01-01T00:00", "since=9999-12-31T23:59"):
            assert page.request.get(f"/deliveries/replay?{query}").status in {200, 422}, query
        token = page.locator("header [name=form_token]").input_value()
        odd: dict[str, Any] = {"form_token": token, "replayed": "9" * 6000, "until": "2000-01-01T00:00"}
        assert page.request.post("/deliveries/replay", form=odd, headers=headers).status == 200
        page.goto("/deliveries/replay?status=delivered")
        assert "must be dead, pending or all" in page.locator("main").inner_text()
    assert service.api(BOB).get("/v1/deliveries", params={"status": "dead"}).json()["data"]


def test_what_dies_after_the_count_is_not_replayed(
    service: DashboardService, receiver: Receiver, browser: "Browser"
) -> None:
    """A confirmed replay has the deliveries that were counted, and none of the incident that came meanwhile."""
    dead_letters(service, receiver, 1)
    with signed_in(browser, service, ANN, script=False) as page:
        page.goto("/deliveries/replay")
        counted = int(page.locator(".figure strong").inner_text())
        assert counted > 0
        later = dead_letters(service, receiver, 1)[0]
        page.click(f"button:has-text('Replay {counted}')")
        assert f"{counted} deliveries are tried again" in page.locator(".notice").inner_text()
    assert service.api().get(f"/v1/deliveries/{later['id']}").json()["status"] == "dead"


def axe_findings_without_script(browser: "Browser", service: DashboardService, url: str) -> list[str]:
    """Return what axe-core finds on a page that is read without scripts: it needs some itself."""
    with signed_in(browser, service, ANN, dark=True) as page:
        page.goto(url)
        return axe_findings(page)


def test_read_only_key_replays_nothing(service: DashboardService, receiver: Receiver, browser: "Browser") -> None:
    """It sees the dead letters of all, has no buttons, and a forged form gets a 403."""
    [newest, *_] = dead_letters(service, receiver, 1, key=BOB)
    with signed_in(browser, service, READER) as page:
        page.goto("/deliveries")
        assert page.locator(f"[data-row='{newest['id']}']").count() == 1
        assert page.locator("main button:has-text('Replay')").count() == 0
        token = page.locator("header [name=form_token]").input_value()
        form: dict[str, Any] = {"form_token": token}
        for path in (f"/deliveries/{newest['id']}/replay", "/deliveries/replay", "/endpoints"):
            assert page.request.post(path, form=form, headers={"Origin": service.url}).status == 403
        assert page.request.get("/deliveries/replay").status == 403
    with signed_in(browser, service, ANN) as page:
        page.goto("/deliveries")
        token = page.locator("header [name=form_token]").input_value()
        headers = {"Origin": service.url}
        path = f"/deliveries/{newest['id']}/replay"
        assert page.request.post(path, form={"form_token": token}, headers=headers).status == 404
        assert page.request.get("/deliveries?client=bob").status == 422


def create_endpoint(page: "Page", url: str, description: str) -> str:
    """Create an endpoint with the form and return its secret."""
    page.goto("/endpoints")
    details = page.locator("details.card")
    if details.get_attribute("open") is None:
        details.locator("summary").click()
    page.fill("#url", url)
    page.fill("#description", description)
    page.check("[name=events][value='task.completed']")
    page.fill("#headers", "X-Shop: 42")
    page.click("text=Create the endpoint")
    return page.locator("#secret").inner_text()


def test_endpoint_lives_from_creation_to_removal(
    service: DashboardService, receiver: Receiver, browser: "Browser"
) -> None:
    """The secret is shown once; it is tested, changed, paused, rotated, replayed and removed, each in the audit log."""
    receiver.requests.clear()
    service.settled(service.submit(BOB), BOB)
    with signed_in(browser, service, BOB, script=False) as page:
        secret = create_endpoint(page, receiver.url("shop"), XSS)
        assert secret.startswith("whsec_")
        page.goto("/endpoints")
        assert secret not in page.content()
        page.click(f"a.title:has-text('{XSS[:12]}')")
        endpoint_id = page.url.rpartition("/")[2]
        assert secret not in page.content()
        page.click("text=Send a test event")
        assert "was delivered" in page.locator(".notice").inner_text()
        assert receiver.requests[-1][1]["x-shop"] == "42"
        page.fill("#description", "Orders")
        page.check("[name=events][value='task.failed']")
        page.click("text=Save")
        page.click("button:text-is('Pause')")
        assert "paused" in page.locator(".facts").first.inner_text()
        page.click("button:text-is('Resume')")
        page.click("text=Make a new secret")
        rotated = page.locator("#secret").inner_text()
        assert rotated.startswith("whsec_")
        assert rotated != secret
        page.goto(f"/endpoints/{endpoint_id}")
        page.click("text=Replay what it missed…")
        page.fill("#since", "2020-01-01T00:00")
        page.click("text=Count again")
        count = int(page.locator(".figure strong").inner_text())
        assert count > 0
        page.click(f"button:has-text('Replay {count}')")
        assert f"{count} events are delivered again" in page.locator(".notice").inner_text()
        shown = service.api(BOB).get(f"/v1/endpoints/{endpoint_id}").json()
        assert (shown["description"], shown["events"], shown["headers"]) == (
            "Orders",
            ["task.completed", "task.failed"],
            ["X-Shop"],
        )
        page.click("text=Remove…")
        page.click("button:has-text('Remove the endpoint')")
        assert "is removed" in page.locator(".notice").inner_text()
    actions = [action.partition(".")[2] for _, action in audit(service, browser, endpoint_id)][::-1]
    assert actions == ["create", "test", "change", "change", "change", "rotate", "replay", "delete"]


def test_name_of_an_event_is_on_one_line(service: DashboardService, browser: "Browser") -> None:
    """An admin chooses among the longest names, those of events of the service; none is broken within a word."""
    for phone in (False, True):
        with signed_in(browser, service, ADMIN, phone=phone) as page:
            page.goto("/endpoints")
            heights = page.locator(".choices label").evaluate_all("all => all.map(each => each.offsetHeight)")
            assert len(heights) > 10
            assert len(set(heights)) == 1


def test_endpoint_with_faults_stays_in_the_form(service: DashboardService, browser: "Browser") -> None:
    """Each fault is beside its field; a form that is sent twice creates one endpoint."""
    with signed_in(browser, service, ANN, script=False) as page:
        page.goto("/endpoints")
        page.fill("#url", "http://169.254.169.254/latest")
        page.fill("#headers", "Host: evil")
        page.click("text=Create the endpoint")
        assert page.locator("#url-fault").count() == 1
        assert page.locator("#headers-fault").count() == 1
        assert page.input_value("#url") == "http://169.254.169.254/latest"
        fields: dict[str, Any] = {
            "form_token": page.locator("header [name=form_token]").input_value(),
            "newest": "",
            "url": "https://example.org/hook",
        }
        headers = {"Origin": service.url}
        assert page.request.post("/endpoints", form=fields, headers=headers).status == 201
        assert page.request.post("/endpoints", form=fields, headers=headers).status == 409
    [endpoint] = service.api().get("/v1/endpoints").json()["data"]
    with signed_in(browser, service, BOB) as page:
        assert page.request.get(f"/endpoints/{endpoint['id']}").status == 404
        page.goto("/endpoints")
        token = page.locator("header [name=form_token]").input_value()
        for action in ("change", "switch", "rotate", "test", "remove", "replay"):
            path = f"/endpoints/{endpoint['id']}/{action}"
            assert page.request.post(path, form={"form_token": token}, headers=headers).status == 404
    with signed_in(browser, service, ADMIN, script=False) as page:
        page.goto(f"/endpoints/{endpoint['id']}")
        assert "example.org/hook" not in page.content()
        page.fill("#description", "seen by ops")
        page.click("text=Save")
        stamp = page.locator("[name=stamp]").input_value()
        form: dict[str, Any] = {"form_token": page.locator("header [name=form_token]").input_value(), "stamp": stamp}
        path = f"/endpoints/{endpoint['id']}/rotate"
        assert page.request.post(path, form=form, headers=headers).status == 200
        assert page.request.post(path, form=form, headers=headers).status == 409
    assert service.api().get(f"/v1/endpoints/{endpoint['id']}").json()["url"] == "https://example.org/hook"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_endpoints_are_accessible_and_fit_a_phone(
    service: DashboardService, receiver: Receiver, browser: "Browser", dark: bool
) -> None:
    """axe-core finds nothing on the list, one endpoint with its secret, and the confirmations."""
    with signed_in(browser, service, BOB, phone=True, dark=dark) as page:
        create_endpoint(page, receiver.url("phone"), "On the phone")
        assert axe_findings(page) == []
        page.goto("/endpoints")
        path = page.locator("a.title").first.get_attribute("href") or ""
        for each in ("/endpoints", path, f"{path}/remove", f"{path}/replay"):
            page.goto(each)
            assert axe_findings(page) == [], each
            page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            page.evaluate("document.documentElement.style.fontSize = '200%'")
            assert page.evaluate("document.documentElement.scrollWidth") == 390, f"{each} with a large font"


def test_handlers_are_paused_resumed_and_tested(
    service: DashboardService, receiver: Receiver, browser: "Browser"
) -> None:
    """A paused handler keeps its deliveries, which a resume makes due; each action is in the audit log."""
    with signed_in(browser, service, ADMIN, script=False) as page:
        page.goto("/deliveries")
        page.click("text=Handlers")
        page.click("button[aria-label='Pause: webhook']")
        assert "webhook is paused" in page.locator(".notice").inner_text()
        entry = {"handler": "webhook", "url": receiver.url("held"), "events": ["task.completed"]}
        task = service.settled(service.submit(BOB, notify=[entry]), BOB)
        held = wait_for(service, 1, status="pending", key=BOB)
        assert ("webhook", task["id"]) in {(each["handler"], each["task_id"]) for each in held}
        page.click("button[aria-label='Resume: webhook']")
        page.click("button[aria-label='Test: log']")
        assert "log took a test event" in page.locator(".notice").inner_text()
        assert page.request.get("/deliveries/handlers?format=json").json()["data"][0]["name"] == "log"
    assert audit(service, browser, "webhook") == [("ops", "handler.resume"), ("ops", "handler.pause")]
    until = monotonic() + 30
    while service.api(BOB).get("/v1/deliveries", params={"status": "pending"}).json()["data"]:
        assert monotonic() < until
    with signed_in(browser, service, ANN) as page:
        assert page.request.get("/deliveries/handlers").status == 403


def test_health_counts_lost_callbacks_and_fits_a_phone(service: DashboardService, browser: "Browser") -> None:
    """Each plot has a text and its numbers; a client sees its own tasks, an admin the oldest due row too."""
    service.set_switches(lose_callbacks=1.0)
    tasks = [service.submit(BOB) for _ in range(2)]
    assert {service.settled(task, BOB)["settled_by"] for task in tasks} == {"poll"}
    service.set_switches(lose_callbacks=0.0)
    with signed_in(browser, service, BOB, phone=True) as page:
        page.goto("/health?range=1h")
        assert page.locator("svg[role=img]").count() == 6
        page.locator("#ends ~ details summary").click()
        assert "Oldest due row" not in page.locator("main").inner_text()
        found = page.request.get("/health?range=1h&format=json").json()
        own = service.api(BOB).get("/v1/tasks", params={"limit": 200}).json()["data"]
        assert found["tasks"]["count"] == len(own)
        assert found["tasks"]["callbacks"]["waiting"] >= 2
        assert found["spend"][-1]["dollars"] == pytest.approx(sum(float(each["usage"]["cost"]) for each in own))
        assert axe_findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.request.get("/health?client=ann").status == 422
        assert page.request.get("/health?range=1y").status == 422
    with signed_in(browser, service, ADMIN, dark=True) as page:
        for name in ("1h", "24h", "7d", "30d"):
            page.goto(f"/health?range={name}")
            assert axe_findings(page) == [], name
        assert "Oldest due row" in page.locator("main").inner_text()
        page.emulate_media(media="print")  # on paper even a dark page is dark on white
        colours = page.locator(".numbers dd").first.evaluate(
            "each => [getComputedStyle(each).color, getComputedStyle(document.body).backgroundColor]"
        )
        assert colours == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
