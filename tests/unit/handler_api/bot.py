"""A handler that uses the whole public API, as a chat platform would, and the application that runs it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import httpx
import pytest

from service.api.app import WebLimits, create_app
from service.deliveries.handler_loader import needed_settings
from service.runtime.application import Application
from service.runtime.bootstrap import build_application
from service.runtime.config.settings import load_settings
from service.runtime.web import build_services
from service.storage import migrate

SECRET = "secret-of-the-platform"
KEY = "key-of-ada"
MODULE = dedent(
    '''
    from pydantic import Field, SecretStr
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response

    from service import Event, Handlers, HandlerSettings, InvalidTask, Job, NotifyOptions, Reject, Tools

    handlers = Handlers()


    class Settings(HandlerSettings):
        bot_secret: SecretStr = Field(description="secret of the platform")
        bot_model: str = Field("viduq2_pro_reference", description="model of new tasks")
        bot_chats: tuple[int, ...] = Field((), description="chats that may spend")


    class Target(NotifyOptions):
        chat: int
        reply_to: int | None = None


    BotTools = Tools[Settings, Target]
    SENT: list[object] = []


    @handlers.on(name="bot", settings=Settings, options=Target, by_request=True, for_clients=True)
    async def bot(event: Event, tools: BotTools) -> None:
        """Note the event for its chat."""
        SENT.append((event.type, tools.options.chat, tools.target["chat"]))


    @handlers.route("POST", "/update", name="bot", max_body=2000, timeout=0.5)
    async def update(request: Request, tools: BotTools) -> Response:
        """Collect the photos of an album; refuse what the platform has not signed."""
        if request.headers.get("x-secret") != tools.config.bot_secret.get_secret_value():
            raise HTTPException(401, "wrong secret")
        body = await request.json()
        if body.get("fail"):
            raise RuntimeError("a secret detail")
        if not await tools.state.add(f"update:{body['id']}", expires_in=86400):
            return JSONResponse({"repeated": True})
        await tools.state.append(f"album:{body['album']}", body["photo"], expires_in=60)
        await tools.schedule("assemble", body["album"], {"chat": body["chat"]}, after=2.5, within=12)
        return JSONResponse({})


    @handlers.job("assemble", name="bot")
    async def assemble(job: Job, tools: BotTools) -> None:
        """Submit one task with all photos."""
        photos = await tools.state.get(f"album:{job.key}", [])
        try:
            task = await tools.submit(
                model=tools.config.bot_model,
                params={"prompt": "a cat", "images": photos},
                notify=[{"handler": "bot", "chat": job.data["chat"]}],
                idempotency_key=job.key,
            )
        except InvalidTask as error:
            SENT.append(str(error))
            return
        SENT.append((task.id, len(photos)))
    '''
)


@dataclass(kw_only=True)
class Bot:
    """The running application, and a client of its web process."""

    application: Application
    client: httpx.AsyncClient

    async def update(self, secret: str = SECRET, **body: object) -> httpx.Response:
        """Send an update as the platform does."""
        return await self.client.post("/handlers/bot/update", headers={"x-secret": secret}, content=json.dumps(body))


def settings_of(directory: Path, **more: str) -> dict[str, str]:
    """Return the variables of a service with the bot."""
    own = {
        "DATABASE_URL": f"sqlite:///{directory / 'bot.db'}",
        "SECRET_KEYS": "signing-key-of-32-characters-no-1",
        "UPSTREAM_KEY": "key",
        "API_KEYS": f"ada={KEY}",
        "BOT_SECRET": SECRET,
        **more,
    }
    return {f"BOOMERANG_{name}": text for name, text in own.items() if text}


@asynccontextmanager
async def running_bot(directory: Path, monkeypatch: pytest.MonkeyPatch, **more: str) -> AsyncIterator[Bot]:
    """Yield a web process with the bot, whose jobs run when a test lets them."""
    (directory / "handlers").mkdir(exist_ok=True)
    (directory / "handlers" / "bot.py").write_text(MODULE)
    monkeypatch.chdir(directory)
    settings = load_settings(settings_of(directory, **more), needed=needed_settings())
    await migrate(settings.database_url)
    async with build_application(settings) as application:
        services = build_services(
            application, stopping=asyncio.Event(), failure_reason=lambda: None, limits=WebLimits()
        )
        transport = httpx.ASGITransport(create_app(services))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield Bot(application=application, client=client)
