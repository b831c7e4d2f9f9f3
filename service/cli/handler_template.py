"""The files that `boomerang handlers new` writes."""

HANDLER = '''"""Posts finished videos of {name} to an address. Say here what it does: this text is its documentation."""

from pydantic import Field, SecretStr

from service import Event, Handlers, HandlerSettings, Reject, Tools

handlers = Handlers()

FINAL = (400, 401, 403, 404, 410, 422)
"""Answers after which another attempt makes no sense."""


class Settings(HandlerSettings):
    """Each field is the variable BOOMERANG_ and its name in capitals; without a default it is required."""

    {prefix}_url: str = Field(description="where finished videos are posted")
    {prefix}_token: SecretStr | None = Field(None, description="token of the address")


@handlers.on("task.completed", name="{name}", timeout=30, settings=Settings)
async def handle(event: Event, tools: Tools[Settings]) -> None:
    """Post a finished video; safe to run twice, since `event.id` is the same over attempts and replays."""
    token = tools.config.{prefix}_token
    headers = {{"idempotency-key": event.id}}
    if token:
        headers["authorization"] = f"Bearer {{token.get_secret_value()}}"
    body = {{"task": event.task.id, "output": event.task.output, "metadata": event.metadata}}
    reply = await tools.http.post(tools.config.{prefix}_url, json=body, headers=headers)
    if reply.status_code in FINAL:
        raise Reject(f"the address answered {{reply.status_code}}")
    reply.raise_for_status()
'''

TEST = '''"""The handler {name}: success, an answer that is final, one that is not, and running twice."""

import asyncio
from pathlib import Path

import httpx

from service.testing import HandlerTest, Outcome, load_handlers

HANDLERS = load_handlers(Path(__file__).with_name("{module}.py"))
SETTINGS = {{"{capitals}_URL": "https://example.org/videos", "{capitals}_TOKEN": "a-token-of-the-test"}}


def deliver(status: int, *, times: int = 1) -> tuple[list[Outcome], list[httpx.Request]]:
    """Deliver one event to an address that answers with `status`; return the outcomes and the requests."""

    async def run() -> tuple[list[Outcome], list[httpx.Request]]:
        async with HandlerTest(HANDLERS, settings=SETTINGS, respond=lambda _: httpx.Response(status)) as test:
            return [await test.deliver("task.completed") for _ in range(times)], test.requests

    return asyncio.run(run())


def test_video_is_posted() -> None:
    """The request names the task and has the token."""
    [outcome], [request] = deliver(200)
    assert outcome.delivered, outcome.error
    assert str(request.url) == "https://example.org/videos"
    assert request.headers["authorization"] == "Bearer a-token-of-the-test"


def test_refusal_is_final() -> None:
    """A wrong token is not tried again."""
    [outcome], _ = deliver(403)
    assert outcome.outcome == "dead"


def test_failure_is_tried_again() -> None:
    """An address that fails gets the video later, and no error has the token."""
    [outcome], _ = deliver(503)
    assert outcome.outcome == "retry"
    assert "a-token-of-the-test" not in (outcome.error or "")


def test_running_twice_is_safe() -> None:
    """A second attempt is recognizable by its key."""
    outcomes, requests = deliver(200, times=2)
    assert all(outcome.delivered for outcome in outcomes)
    assert all(request.headers["idempotency-key"] for request in requests)
'''
