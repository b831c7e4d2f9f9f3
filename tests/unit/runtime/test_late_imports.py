"""What a start leaves out is imported soon after it: requests need no file of the service from then on."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.runtime import late_imports
from service.runtime.late_imports import ANSWERS, METRICS, PAGES, import_late, late_modules
from service.storage import migrate
from tests.support.service_process import output_of

PATHS = (
    *(
        "/",
        "/tasks",
        "/tasks/unknown",
        "/new",
        "/new?model=viduq2_pro_reference",
        "/deliveries",
        "/endpoints",
        "/health",
    ),
    *("/audit", "/assets/style.css", "/sign-in", "/openapi.json", "/docs", "/metrics", "/v1/tasks", "/v1/usage"),
    *("/v1/videos", "/v1/videos/unknown", "/model/v1/generation/task/unknown", "/api/v1/skill/models", "/v1/models"),
)
"""Requests that use every part that is imported late."""

PROGRAM = f"""
import asyncio, importlib.abc, json, sys
import httpx
from service.cli.server import operator_settings
from service.runtime import late_imports
from service.runtime.bootstrap import build_application
from service.runtime.config.required_settings import start_checks
from service.runtime.process import prepare_storage
from service.runtime.web import build_app

class Replaced(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("service", "jinja2", "pydantic", "prometheus_client"):
            wanted.append(name)
            raise ImportError(name)

async def main():
    settings = await prepare_storage(operator_settings(checks=start_checks(host="127.0.0.1")))
    async with build_application(settings) as application:
        app = build_app(application, "all", asyncio.Event(), lambda: None)
        if "import" in sys.argv:
            late_imports.DELAY = late_imports.PAUSE = 0.0
            await late_imports.import_late(late_imports.late_modules("all", dashboard=True))
            import jinja2
            jinja2.PackageLoader.get_source = None
        sys.meta_path.insert(0, Replaced())
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            statuses = {{path: (await client.get(path)).status_code for path in {PATHS!r}}}
        print(json.dumps({{"wanted": wanted, "statuses": statuses}}))

wanted = []
asyncio.run(main())
"""


def answers(directory: Path, *arguments: str) -> tuple[dict[str, int], list[str]]:
    """Return the status of each path, from a process whose files were replaced, and the modules it still wanted."""
    asyncio.run(migrate(f"sqlite:///{directory / 'boomerang.db'}"))
    found = json.loads(output_of(PROGRAM, directory, *arguments).splitlines()[-1])
    return found["statuses"], found["wanted"]


def test_requests_need_no_file_after_the_late_imports(tmp_path: Path) -> None:
    """Code and templates that were replaced under a running process change no page and no answer."""
    statuses, wanted = answers(tmp_path, "import")
    assert wanted == []
    assert {path: status for path, status in statuses.items() if status not in {200, 303, 404}} == {}
    assert statuses["/"] == statuses["/openapi.json"] == statuses["/v1/videos"] == 200


def test_requests_need_files_without_them(tmp_path: Path) -> None:
    """The test above can fail: without the imports the first page is an error."""
    assert answers(tmp_path)[0]["/"] == 500


def test_a_process_imports_what_its_requests_need() -> None:
    """A worker serves metrics only, and a process without a dashboard has no pages."""
    assert late_modules("worker", dashboard=True) == METRICS
    assert late_modules("web", dashboard=False) == ANSWERS
    assert late_modules("all", dashboard=True) == (*ANSWERS, *PAGES)


async def test_a_module_that_cannot_be_imported_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are imported all the same."""
    for name in ("DELAY", "PAUSE"):
        monkeypatch.setattr(late_imports, name, 0.0)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with capture_logs() as logs:
        await import_late(["service.no_such_module", "colorsys"])
    assert [(each["log_level"], each["event"], each.get("imported")) for each in logs] == [
        ("warning", "late import failed", "service.no_such_module"),
        ("debug", "late imports done", None),
    ]
    assert "colorsys" in sys.modules
