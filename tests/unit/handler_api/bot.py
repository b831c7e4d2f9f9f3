"""A handler that uses the whole public API, as one of a chat platform does."""

import hmac
from typing import Any

from pydantic import Field, SecretStr
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service import Event, Handlers, HandlerSettings, InvalidTask, Job, NotifyOptions, Tools

handlers = Handlers()


class Settings(HandlerSettings):
    """The settings of the bot."""

    bot_secret: SecretStr = Field(description="secret of the platform")
    bot_model: str = Field("viduq2_pro_reference", description="model of new tasks")
    bot_chats: tuple[int, ...] = Field((), description="chats that may spend, all by default")
    bot_a_day: int = Field(2, ge=1, description="videos of a chat a day")


class Target(NotifyOptions):
    """Where the bot answers."""

    chat: int
    reply_to: int | None = None


BotTools = Tools[Settings, Target]


@handlers.on(name="bot", settings=Settings, options=Target, by_request=True, for_clients=True)
async def bot(event: Event, tools: BotTools) -> None:
    """Send the event to its chat."""
    body = {"chat": tools.options.chat, "text": event.type}
    (await tools.operator_http.post("https://chat.example/send", json=body)).raise_for_status()


@handlers.route("POST", "/update", name="bot", max_body=2000)
async def update(request: Request, tools: BotTools) -> Response:
    """Collect the photos of an album; refuse what the platform has not signed."""
    secret = tools.config.bot_secret.get_secret_value()
    if not hmac.compare_digest(request.headers.get("x-secret", "").encode(), secret.encode()):
        raise HTTPException(401, "a detail that nobody sees")
    body: dict[str, Any] = await request.json()
    if tools.config.bot_chats and body["chat"] not in tools.config.bot_chats:
        return JSONResponse({"text": "not here"})
    if not await tools.state.add(f"update:{body['id']}", expires_in=86_400):
        return JSONResponse({"text": "seen before"})
    await tools.state.append(f"album:{body['album']}", body["photo"], max_items=10, expires_in=3600)
    await tools.schedule("assemble", body["album"], {"chat": body["chat"]}, after=2.5, within=12)
    return JSONResponse({})


@handlers.job("assemble", name="bot", attempts=3)
async def assemble(job: Job, tools: BotTools) -> None:
    """Submit one task with all photos of an album."""
    chat = job.data["chat"]
    if await tools.state.increment(f"spent:{chat}", limit=tools.config.bot_a_day, expires_in=86_400) is None:
        await tools.operator_http.post("https://chat.example/send", json={"chat": chat, "text": "enough for today"})
        return
    photos = await tools.state.get(f"album:{job.key}", [])
    try:
        await tools.submit(
            model=tools.config.bot_model,
            params={"prompt": "a cat", "images": photos},
            metadata={"chat": chat},
            notify=[{"handler": "bot", "chat": chat, "events": ["task.completed"]}],
            idempotency_key=f"album/{job.key}",
        )
    except InvalidTask as error:
        await tools.operator_http.post("https://chat.example/send", json={"chat": chat, "text": str(error)})
