"""The form for a new task in a real browser, with and without JavaScript."""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
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
    from playwright.sync_api import Browser

XSS = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DashboardService]:
    """Run the service during this module."""
    with dashboard_service(tmp_path_factory.mktemp("new-task")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Run Chromium during this module."""
    with running_browser() as found:
        yield found


def png(path: Path, side: int = 160) -> Path:
    """Write a square grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"\x7f" * side for _ in range(side))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
def test_files_become_a_task(service: DashboardService, browser: "Browser", tmp_path: Path, script: bool) -> None:
    """Two files, an address, metadata and a webhook reach the task; the audit log says who created it."""
    files = [png(tmp_path / "one.png"), png(tmp_path / "two.png", 200)]
    with signed_in(browser, service, ANN, script=script) as page:
        page.goto("/new")
        page.fill("#prompt", "a cat on a roof")
        page.set_input_files("#images-files", files)
        page.fill("#images", "https://example.org/dog.png")
        page.select_option("#resolution", "1080p")
        page.fill("#metadata", '{"order": "A-1"}')
        page.click("text=Create the task")
        page.wait_for_url("**/tasks/*")
        task_id = page.url.rpartition("/")[2]
    task = service.api().get(f"/v1/tasks/{task_id}").json()
    params = task["params"]
    assert params["prompt"] == "a cat on a roof"
    assert params["images"][0] == "https://example.org/dog.png"
    assert [item["bytes"] for item in params["images"][1:]] == [each.stat().st_size for each in files]
    assert (params["resolution"], task["metadata"], "duration" in params) == ("1080p", {"order": "A-1"}, False)
    with signed_in(browser, service, ADMIN) as page:
        entries = page.request.get(f"/audit?target={task_id}&format=json").json()["data"]
    assert [(entry["actor"], entry["action"]) for entry in entries] == [("ann", "task.create")]


def test_faults_stand_beside_their_fields(service: DashboardService, browser: "Browser", tmp_path: Path) -> None:
    """Every value stays, files too; the second try creates the task with the kept file."""
    odd = 'b"e;\r\n|<script>alert(1)<\\script> é.png'
    small, good = png(tmp_path / "small.png", 64), png(tmp_path / odd)
    with signed_in(browser, service, ANN, script=False) as page:
        page.goto("/new")
        page.fill("#prompt", XSS)
        page.set_input_files("#images-files", [good, small])
        page.fill("#metadata", "{no json")
        page.fill("#notify_url", "http://169.254.169.254/latest")
        page.click("text=Create the task")
        assert page.input_value("#prompt") == XSS
        assert page.locator("#images-fault").inner_text().startswith("✕ small.png: ")
        assert "<script>alert(1)" in page.locator(".kept").first.inner_text()
        assert "is not accepted JSON" in page.locator("#metadata-fault").inner_text()
        assert page.locator("#notify-fault").count() == 1
        assert "metadata-fault" in (page.get_attribute("#metadata", "aria-describedby") or "")
        assert page.get_attribute("#metadata", "aria-invalid") == "true"
        page.locator(".kept", has_text="small.png").locator("input").uncheck()
        page.fill("#metadata", "")
        page.fill("#notify_url", "")
        page.click("text=Create the task")
        page.wait_for_url("**/tasks/*")
        task_id = page.url.rpartition("/")[2]
    task = service.api().get(f"/v1/tasks/{task_id}").json()
    assert [item["bytes"] for item in task["params"]["images"]] == [good.stat().st_size]


def test_limits_are_checked_before_sending(service: DashboardService, browser: "Browser", tmp_path: Path) -> None:
    """Too many files and a wrong number keep the form from being sent; the message is beside the field."""
    files = [png(tmp_path / f"{number}.png") for number in range(8)]
    with signed_in(browser, service, ANN) as page:
        page.goto("/new")
        page.fill("#prompt", "a cat")
        page.set_input_files("#images-files", files)
        assert "at most 7" in page.locator("#images-live").inner_text()
        page.click("text=Create the task")
        assert page.url.endswith("/new")
        page.set_input_files("#images-files", files[:2])
        assert page.locator("#images-live").is_hidden()
        page.fill("#duration", "11")
        assert not page.locator("#duration").evaluate("each => each.validity.valid")


def test_pasted_text_is_not_cut(service: DashboardService, browser: "Browser") -> None:
    """All of it stays; the form is not sent, and the number of characters is announced as the service counts them."""
    with signed_in(browser, service, ANN) as page:
        page.goto("/new")
        assert page.locator("#prompt-count").inner_text() == "0 of at most 5,000 characters."
        page.fill("#images", "https://example.org/cat.png")
        page.fill("#prompt", "\N{CAT FACE}" * 5000)
        assert page.locator("#prompt").evaluate("each => each.validity.valid")
        page.fill("#prompt", "")
        page.locator("#prompt").evaluate("each => each.focus()")
        page.keyboard.insert_text("x" * 5011)
        text = "5,011 characters: at most 5,000 are allowed. Remove 11."
        assert page.locator("#prompt-count").inner_text() == page.locator("#status").inner_text() == text
        page.click("text=Create the task")
        assert page.url.endswith("/new")
        assert page.locator("#prompt").evaluate("each => each.value.length") == 5011


def test_limits_over_several_fields_are_checked(service: DashboardService, browser: "Browser") -> None:
    """That of all subjects together, and that of images beside videos; one region announces what is wrong."""
    addresses = "\n".join(f"https://example.org/{number}.png" for number in range(5))
    with signed_in(browser, service, ANN) as page:
        page.goto("/new?model=viduq2_reference2video")
        for index in range(3):
            if index:
                page.click(f"summary:text('Subject {index + 1}')")
            page.fill(subject(index, "images"), addresses.partition("/3.png")[0].rpartition("\n")[0])
        text = "9 are chosen over all: at most 7 are allowed. Remove 2."
        assert page.locator(subject(0, "images-live")).inner_text() == page.locator("#status").inner_text() == text
        assert not page.locator(subject(2, "images-files")).evaluate("each => each.validity.valid")
        assert page.locator("[role=status], [aria-live]").count() == 1
        page.fill(subject(0, "images"), "")
        page.fill("#prompt", "a cat")
        page.fill(subject(0, "id"), "cat")
        page.fill(subject(2, "voice_id"), "x" * 65)
        page.click("summary:text('Subject 3')")
        assert page.locator(subject(2, "voice_id")).is_hidden()
        page.click("text=Create the task")
        assert page.locator(subject(2, "voice_id")).is_visible()
        page.goto("/new")
        page.fill("#images", addresses)
        assert page.locator("#images-live").is_hidden()
        page.fill("#videos", "https://example.org/a.mp4")
        assert page.locator("#images-live").inner_text() == "5 are chosen: at most 4 are allowed together with videos."


@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
def test_task_is_submitted_again_with_edits(
    service: DashboardService, browser: "Browser", tmp_path: Path, script: bool
) -> None:
    """From the page of a task to the new one, which is linked to it and keeps its receiver and its file."""
    target = {"handler": "webhook", "url": "https://hooks.example/in?token=secret-of-the-receiver"}
    with signed_in(browser, service, ANN, script=script) as page:
        page.goto("/new")
        page.fill("#prompt", "the first try")
        page.set_input_files("#images-files", png(tmp_path / "cat.png"))
        page.click("summary:text('Other notify entries')")
        page.fill("#notify", json.dumps([target]))
        page.click("text=Create the task")
        page.wait_for_url("**/tasks/*")
        first = service.settled({"id": page.url.rpartition("/")[2]})
        page.reload()
        page.click("text=Submit again with edits")
        assert "webhook (hooks.example)" in page.locator("main").inner_text()
        assert "secret-of-the-receiver" not in page.content()
        page.fill("#prompt", "the second try")
        page.click("text=Create the task")
        page.wait_for_url(lambda url: "/tasks/" in url and first["id"] not in url)
        second = service.api().get(f"/v1/tasks/{page.url.rpartition('/')[2]}").json()
    assert (second["resubmission_of"], second["params"]) == (
        first["id"],
        first["params"] | {"prompt": "the second try"},
    )


@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
def test_selection_of_the_page_is_shown_with_the_script(
    service: DashboardService, browser: "Browser", script: bool
) -> None:
    """Without it the control would do nothing."""
    service.submit()
    with signed_in(browser, service, ANN, script=script) as page:
        page.goto("/tasks")
        assert page.locator("#select-all").is_visible() is script


def test_form_sent_twice_creates_one_task(service: DashboardService, browser: "Browser") -> None:
    """The same form, sent again by the browser, leads to the task that exists; with other values it asks."""
    with signed_in(browser, service, BOB, script=False) as page:
        page.goto("/new")
        page.fill("#prompt", "once")
        page.fill("#images", "https://example.org/cat.png")
        fields = page.locator("form[data-new-task]").evaluate("form => Object.fromEntries(new FormData(form))")
        texts: dict[str, Any] = {name: value for name, value in fields.items() if isinstance(value, str)}
        headers = {"Origin": service.url}
        first = page.request.post("/new", multipart=texts, headers=headers, max_redirects=0)
        again = page.request.post("/new", multipart=texts, headers=headers, max_redirects=0)
        assert first.status == again.status == 303
        assert first.headers["location"] == again.headers["location"]
        other = page.request.post("/new", multipart={**texts, "prompt": "twice"}, headers=headers, max_redirects=0)
        assert other.status == 409
        assert "was sent before" in other.text()
    assert len(service.api(BOB).get("/v1/tasks").json()["data"]) == 1


def test_session_that_ended_costs_nothing(service: DashboardService, browser: "Browser", tmp_path: Path) -> None:
    """Signed out while the form was filled in: after signing in and one press the task is there, with its file."""
    picture = png(tmp_path / "small.png", 130)
    with signed_in(browser, service, ANN, phone=True) as page:
        page.goto("/new")
        page.fill("#prompt", "typed before the session ended")
        page.set_input_files("#images-files", picture)
        page.context.clear_cookies()
        page.click("text=Create the task")
        assert "Your session has ended" in page.locator("[role=alert]").inner_text()
        assert axe_findings(page) == []
        page.fill("#key", ANN)
        page.click("button.primary")
        assert "typed before the session ended" in page.locator("main").inner_text()
        assert axe_findings(page) == []
        page.click("text=Send it now")
        page.wait_for_url("**/tasks/*")
        task = service.api().get(f"/v1/tasks/{page.url.rpartition('/')[2]}").json()
    assert task["params"]["prompt"] == "typed before the session ended"
    assert [item["bytes"] for item in task["params"]["images"]] == [picture.stat().st_size]


def test_form_is_filled_in_from_another_task(service: DashboardService, browser: "Browser", tmp_path: Path) -> None:
    """Its parameters, addresses and stored files are there; the task of another client is not."""
    picture = png(tmp_path / "cat.png")
    with signed_in(browser, service, ANN, script=False) as page:
        page.goto("/new")
        page.fill("#prompt", "the first try")
        page.set_input_files("#images-files", picture)
        page.fill("#duration", "4")
        page.click("text=Create the task")
        page.wait_for_url("**/tasks/*")
        first = page.url.rpartition("/")[2]
        page.goto(f"/new?from={first}")
        assert page.input_value("#prompt") == "the first try"
        assert page.input_value("#duration") == "4"
        page.fill("#prompt", "the second try")
        page.click("text=Create the task")
        page.wait_for_url("**/tasks/*")
        second = page.url.rpartition("/")[2]
    images = service.api().get(f"/v1/tasks/{second}").json()["params"]["images"]
    assert images == service.api().get(f"/v1/tasks/{first}").json()["params"]["images"]
    with signed_in(browser, service, BOB) as page:
        answer = page.goto(f"/new?from={first}")
        assert answer is not None
        assert answer.status == 404


@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
def test_subjects_become_a_task(service: DashboardService, browser: "Browser", tmp_path: Path, script: bool) -> None:
    """Each subject has its name and pictures; a faulty form keeps them, and another task can be filled in with them."""
    cat, small = png(tmp_path / "cat.png"), png(tmp_path / "small.png", 64)
    with signed_in(browser, service, ANN, script=script) as page:
        page.goto("/new?model=viduq2_reference2video")
        page.fill("#prompt", "@cat meets @dog")
        page.fill(subject(0, "id"), "cat")
        page.set_input_files(subject(0, "images-files"), [cat, small])
        page.click("summary:text('Subject 3')")
        page.fill(subject(2, "id"), "dog")
        page.fill(subject(2, "images"), "https://example.org/dog.png")
        assert not script or axe_findings(page) == []
        page.click("text=Create the task")
        assert page.locator(subject(0, "images-fault")).inner_text().startswith("✕ small.png: ")
        page.locator(".kept", has_text="small.png").locator("input").uncheck()
        page.click("text=Create the task")
        page.wait_for_url("**/tasks/*")
        first = page.url.rpartition("/")[2]
        page.goto(f"/new?from={first}")
        assert page.input_value(subject(1, "id")) == "dog"
        page.click("text=Create the task")
        page.wait_for_url("**/tasks/*")
        second = page.url.rpartition("/")[2]
    found = [service.api().get(f"/v1/tasks/{one}").json()["params"]["subjects"] for one in (first, second)]
    assert [each["id"] for each in found[0]] == ["cat", "dog"]
    assert [item["bytes"] for item in found[0][0]["images"]] == [cat.stat().st_size]
    assert found[0][1]["images"] == ["https://example.org/dog.png"]
    assert found[1] == found[0]


def subject(index: int, key: str) -> str:
    """Return the selector of what belongs to a subject."""
    return f"[id='subjects.{index}.{key}']"


def test_forged_and_foreign_forms_are_refused(service: DashboardService, browser: "Browser") -> None:
    """Without the token of the session, from another site, or by a read-only key nothing is created."""
    with signed_in(browser, service, ANN) as page:
        fields: dict[str, Any] = {
            "model": "viduq2_pro_reference",
            "prompt": "x",
            "images": "https://example.org/cat.png",
        }
        assert page.request.post("/new", multipart=fields, headers={"Origin": service.url}).status == 403
        page.goto("/new")
        token = page.locator("[data-new-task] [name=form_token]").input_value()
        foreign = {"Origin": "https://evil.example"}
        assert page.request.post("/new", multipart={**fields, "form_token": token}, headers=foreign).status == 403
    with signed_in(browser, service, READER) as page:
        page.goto("/new")
        assert page.locator("text=Create the task").count() == 0
        token = page.locator("[data-new-task] [name=form_token]").input_value()
        own = {"Origin": service.url}
        assert page.request.post("/new", multipart={**fields, "form_token": token}, headers=own).status == 403


def test_malformed_and_large_forms_are_refused(service: DashboardService) -> None:
    """A body that is cut off or unnamed gets a 400, one over the limit a 413, and the service goes on."""
    http, headers = service.api(), {"Origin": service.url, "Content-Type": "multipart/form-data; boundary=x"}
    part = 'Content-Disposition: form-data; name="prompt"'
    bodies = {
        f"--x\r\n{part}\r\n\r\nab": 403,  # the token is in no complete part
        "--x\r\nContent-Disposition: form-data\r\n\r\nab\r\n--x--": 400,
        "no form at all": 400,
        "x" * 26_000_000: 413,
        "".join(f"--x\r\n{part}\r\n\r\nab\r\n" for _ in range(300)): 400,
    }
    for body, status in bodies.items():
        assert http.post("/new", content=body, headers=headers).status_code == status, body[:60]
    assert http.post("/new", data={"prompt": "x"}, headers={"Origin": service.url}).status_code == 403
    assert http.get("/new").status_code == 200


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_form_is_accessible_and_fits_a_phone(service: DashboardService, browser: "Browser", dark: bool) -> None:
    """axe-core finds nothing, also with faults; nothing is wider than the screen; the JSON has the schema."""
    with signed_in(browser, service, ANN, phone=True, dark=dark) as page:
        page.goto("/new")
        page.click("summary >> nth=0")
        assert axe_findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.fill("#prompt", "x")
        page.fill("#images", "nonsense")
        page.fill("#metadata", "[1]")
        page.click("text=Create the task")
        page.wait_for_selector("#metadata-fault")
        assert axe_findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        found = page.request.get("/new?format=json").json()
        assert found["parameters"] == service.api().get("/v1/models/viduq2_pro_reference").json()["parameters"]
