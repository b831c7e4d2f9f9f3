"""A handler that gets a new name keeps what it has stored."""

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from service import Event, Handlers, Job, Tools
from service.deliveries.handler_loader import ready_handlers
from service.domain.errors import BadSetting
from service.runtime.config.settings import load_settings
from service.testing import HandlerTest

SEEN: list[str] = []


def handlers_named(name: str, *aliases: str) -> Handlers:
    """Return a handler with a job and a route."""
    handlers = Handlers()

    @handlers.on(name=name, aliases=aliases, by_request=True)
    async def sample(event: Event, tools: Tools) -> None:
        """Do nothing."""

    @handlers.job("work", name=name)
    async def work(job: Job, tools: Tools) -> None:
        SEEN.append(f"{name} {job.key} {await tools.state.get('key')}")

    @handlers.route("POST", "/hook", name=name)
    async def hook(_: Request, _tools: Tools) -> Response:
        return Response(name)

    return handlers


async def test_new_name_keeps_values_jobs_tasks_and_routes() -> None:
    """Its oldest name is the one that is stored."""
    async with HandlerTest(handlers_named("now", "before", "first")) as test:
        old = ready_handlers({each.name: each for each in handlers_named("first")}, None, {})
        tools = test._application.tools.for_handler(old["first"])
        await tools.state.set("key", "value")
        await tools.schedule("work", "a")
        task = await tools.submit(
            model="viduq2_pro_reference", params={"prompt": "a cat", "images": ["https://files.example/1.png"]}
        )
        assert (await test.tools.task(task.id)) is not None
        await test.advance(0)
        assert SEEN == ["now a value"]
        for name in ("now", "before", "first"):
            response = await test._web.post(f"/handlers/{name}/hook")
            assert (response.status_code, response.text) == (200, "now")


def test_setting_that_no_handler_sees_stops_the_start(tmp_path: Path) -> None:
    """A handler that declares it would never be loaded."""
    with pytest.raises(BadSetting, match="BOOMERANG_UPSTREAM_KEY is declared by a handler, and no handler sees it"):
        load_settings({}, dotenv=tmp_path / ".env", needed={"UPSTREAM_KEY"})
