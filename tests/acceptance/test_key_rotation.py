"""Signing keys are replaced process by process under load, in any order: no callback is refused."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.server import listen, serving
from service.domain.errors import BadToken
from service.domain.tokens import Tokens
from tests.acceptance.environment import IMAGE, MODEL, prepare, service, settings, upstream
from tests.acceptance.processes import HOST, TIMEOUT, Workspace, until, wait_for_response
from tests.chaos.fleet import Fleet, ProcessSlot, process_slot

OLD, NEW, NEWEST = (f"a-signing-key-of-forty-characters-number-{number}" for number in (1, 2, 3))


@dataclass(kw_only=True)
class Balancer:
    """Forwards callbacks to the web processes in turn, to the next one where one cannot be reached; counts answers."""

    http: httpx.AsyncClient
    webs: list[ProcessSlot] = field(default_factory=list)
    url: str = ""
    answers: Counter[int] = field(default_factory=Counter)
    tokens: list[str] = field(default_factory=list)
    _turn: "itertools.count[int]" = field(default_factory=itertools.count)

    async def forward(self, request: Request) -> Response:
        """Forward one callback."""
        body, token = await request.body(), request.path_params["token"]
        self.tokens.append(token)
        headers = {"Content-Type": request.headers["content-type"]}
        first = next(self._turn)
        for offset in range(20):
            web = self.webs[(first + offset) % len(self.webs)]
            with suppress(httpx.TransportError):
                answer = await self.http.post(f"{web.url}/callbacks/{token}", content=body, headers=headers)
                self.answers[answer.status_code] += 1
                return Response(status_code=answer.status_code)
            await asyncio.sleep(0.05)
        return Response(status_code=502)


@asynccontextmanager
async def balancing(webs: list[ProcessSlot]) -> AsyncIterator[Balancer]:
    """Run a balancer over the web processes."""
    async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as http:
        balancer = Balancer(http=http, webs=webs)
        app = Starlette(routes=[Route("/callbacks/{token}", balancer.forward, methods=["POST"])])
        async with serving(app, listen(HOST, 0), grace=1) as balancer.url:
            yield balancer


async def restart(fleet: Fleet, slot: ProcessSlot, keys: str) -> None:
    """Stop a process as a deployment does, and start it with other keys."""
    child = fleet.child(slot)
    child.terminate()
    await until(lambda: not child.alive, what="the end of a process", seconds=TIMEOUT)
    fleet.env = {**fleet.env, "BOOMERANG_SECRET_KEYS": keys}
    await wait_for_response(fleet.start(slot))


async def submit_until(stop: asyncio.Event, balancer: Balancer) -> None:
    """Submit tasks, some a second, to whichever web process can be reached."""
    body = {"model": MODEL, "params": {"prompt": "a cat", "images": [IMAGE]}}
    for number in itertools.count():
        if stop.is_set():
            return
        with suppress(httpx.TransportError):
            await balancer.http.post(f"{balancer.webs[number % 2].url}/v1/tasks", json=body)
        await asyncio.sleep(0.3)


def signed_with(key: str, token: str) -> bool:
    """Return whether a key has signed a token."""
    try:
        Tokens([key]).read_callback_token(token, datetime.now(UTC))
    except BadToken:
        return False
    return True


async def test_no_callback_is_refused_while_keys_are_replaced(workspace: Workspace, empty_postgres: str) -> None:
    """First the worker gets a new key before the web processes, then after them: all callbacks are accepted."""
    webs, work = [process_slot(name, role="web") for name in ("web1", "web2")], process_slot("worker", role="worker")
    async with balancing(webs) as balancer, upstream(workspace, "--tiny-videos", "--run-time", "300ms") as sandbox:
        more = {"SECRET_KEYS": OLD, "POLL_FIRST": "1h", "POLL_MAX": "1h"}
        env = settings(sandbox.url, balancer.url, empty_postgres, **more)
        await prepare(empty_postgres)
        fleet = Fleet(workspace=workspace, env=env, slots=[*webs, work])
        await fleet.started()
        stop = asyncio.Event()
        load = asyncio.create_task(submit_until(stop, balancer))
        for slot in (work, *webs):
            await restart(fleet, slot, f"{NEW},{OLD}")
        for slot in (*webs, work):
            await restart(fleet, slot, f"{NEWEST},{NEW},{OLD}")
        expected = len(balancer.tokens) + 3
        await until(lambda: len(balancer.tokens) > expected, what="callbacks after the last restart", seconds=TIMEOUT)
        stop.set()
        await load
        assert set(balancer.answers) == {204}, dict(balancer.answers)
        async with service(fleet.child(webs[0])) as at:
            await at.wait_until_idle()
        await fleet.stopped()
    assert set(balancer.answers) == {204}, dict(balancer.answers)
    assert signed_with(OLD, balancer.tokens[0])
    assert signed_with(NEWEST, balancer.tokens[-1])
