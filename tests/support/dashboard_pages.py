"""The dashboard in a real browser: the sandbox and the service as processes, and Chromium with signed-in pages."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from tests.acceptance.environment import settings, sqlite
from tests.acceptance.processes import HOST, Json, Workspace, wait_for_response
from tests.support.database_copies import place_database
from tests.support.plain_http import NO_CERTIFICATES
from tests.support.ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

ADMIN, READER, ANN, BOB = "admin-key-of-the-tests", "reader-key-of-the-tests", "client-key-of-ann", "client-key-of-bob"
API_KEYS = f"ops={ADMIN}:admin,view={READER}:read,ann={ANN},bob={BOB}"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE = {"width": 390, "height": 844}
WIDE = {"width": 1280, "height": 900}
DELIVERY_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class DashboardService:
    """A running service and its sandbox, with a client for each key."""

    url: str
    upstream_url: str
    home: Path
    sessions: dict[str, Any] = field(default_factory=dict)
    """Cookies of the browser that is signed in with a key: see `signed_in`."""

    _clients: dict[str, httpx.Client] = field(default_factory=dict)

    def api(self, key: str = ANN) -> httpx.Client:
        """Return the HTTP client of a key."""
        if key not in self._clients:
            headers = {"Authorization": f"Bearer {key}"}
            self._clients[key] = httpx.Client(
                base_url=self.url, headers=headers, timeout=30, trust_env=False, verify=NO_CERTIFICATES
            )
        return self._clients[key]

    def submit(self, key: str = ANN, **more: Any) -> Json:
        """Submit a task and return it."""
        params = {"prompt": "a cat", "images": ["https://example.org/cat.png"]} | more.pop("params", {})
        body = {"model": "viduq2_pro_reference", "params": params, **more}
        found: Json = self.api(key).post("/v1/tasks", json=body).raise_for_status().json()
        return found

    def settled(self, task: Json, key: str = ANN) -> Json:
        """Wait until a task is settled and return it."""
        found: Json = self.api(key).get(f"/v1/tasks/{task['id']}", params={"wait": 20}).raise_for_status().json()
        return found

    def delivered(self, task: Json, key: str = ANN) -> Json:
        """Wait until a task is settled and none of its deliveries is pending, and return it."""
        found, deadline = self.settled(task, key), time.monotonic() + DELIVERY_SECONDS
        while pending := [each for each in self._deliveries(task, key) if each["status"] == "pending"]:
            assert time.monotonic() < deadline, pending
            time.sleep(0.05)
        return found

    def _deliveries(self, task: Json, key: str) -> list[Json]:
        history = self.api(key).get(f"/v1/tasks/{task['id']}/events").raise_for_status().json()["data"]
        return [each for each in history if each["kind"] == "delivery"]

    def set_switches(self, **switches: object) -> None:
        """Change the switches of the sandbox."""
        httpx.post(f"{self.upstream_url}/sandbox/switches", json=switches, trust_env=False).raise_for_status()

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients.values():
            client.close()


@contextmanager
def dashboard_service(home: Path, **more: str) -> Iterator[DashboardService]:
    """Run the sandbox and the service with keys of each role; `more` are settings without their prefix."""
    with Workspace(home=home, forks=True) as workspace:
        port = free_port()
        url = f"http://{HOST}:{port}"
        sandbox = workspace.start("sandbox", "sandbox", "--port", str(port), "--run-time", "200ms", url=url)
        public_url = f"http://{HOST}:{free_port()}"
        anyio.run(place_database, workspace.home / "boomerang.db")
        values = {"API_KEYS": API_KEYS, "BUDGET": "50", "RETRY_SCHEDULE": "0s,1s", **more}
        env = settings(url, public_url, sqlite(workspace), **values)
        child = workspace.start("serve", "serve", "--port", public_url.rpartition(":")[2], env=env, url=public_url)
        anyio.run(wait_for_response, sandbox, "/sandbox/ledger")
        anyio.run(wait_for_response, child)
        service = DashboardService(url=public_url, upstream_url=url, home=home)
        yield service
        service.close()


@contextmanager
def running_browser() -> Iterator["Browser"]:
    """Yield Chromium; skip the tests where it is not installed."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only where there is a browser

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def signed_in(
    browser: "Browser",
    service: DashboardService,
    key: str,
    *,
    script: bool = True,
    phone: bool = False,
    dark: bool = False,
    own: bool = False,
) -> Iterator["Page"]:
    """Yield a page of a browser that is signed in with `key`; an error in a script fails the test.

    The form is filled in once for each key of a service: later pages get the cookies of that session. A test that ends
    its session needs its `own`.
    """
    context = browser.new_context(
        base_url=service.url,
        java_script_enabled=script,
        viewport=PHONE if phone else WIDE,  # type: ignore[arg-type]
        color_scheme="dark" if dark else "light",
    )
    context.set_default_timeout(15_000)
    page, errors = context.new_page(), list[str]()

    def refuse(dialog: "Dialog") -> None:
        errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", refuse)
    if key in service.sessions and not own:
        context.add_cookies(service.sessions[key])
    else:
        page.goto("/sign-in")
        page.fill("#key", key)
        page.click("button.primary")
        page.locator(".who .name").wait_for()
        if not own:
            service.sessions[key] = context.cookies()
    try:
        yield page
        assert errors == []
    finally:
        context.close()


def axe_findings(page: "Page") -> list[str]:
    """Return what axe-core finds on a page, by rule and element."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - only where there is a browser

    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": tags}})
    return [f"{each['id']}: {node['html'][:160]}" for each in found.response["violations"] for node in each["nodes"]]
