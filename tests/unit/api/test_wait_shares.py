"""Requests in progress keep connections: clients share them, and some are left for everybody else."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import anyio
import httpx
import pytest

from service.api.app import WebLimits
from service.api.server import listen, serving
from service.domain.api_key import ApiKey
from service.domain.task import Status
from tests.unit.api.fakes import FakeApplication, a_task, app_of, client_of

CONNECTIONS = 8
ANN, BOB = "a-key-of-ann-that-is-long-enough", "a-key-of-bob-that-is-long-enough"


class Waiting(FakeApplication):
    """An application whose waits never end by themselves."""

    async def wait(self, topic: str, seconds: float) -> bool:
        """Wait until the request is cancelled."""
        self.waits.append((topic, seconds))
        await anyio.sleep_forever()
        raise AssertionError("unreachable")


KEYS = [ApiKey(name="ann", key=ANN), ApiKey(name="bob", key=BOB)]


@pytest.mark.parametrize("requests", [CONNECTIONS, 3 * CONNECTIONS])
async def test_waits_of_one_client_leave_connections_for_others(requests: int) -> None:
    """Another client's requests are served and may wait, however many requests of one client wait."""
    fake = Waiting()
    fake.add(a_task(1, client="ann"))
    fake.add(a_task(2, client="bob"))
    app = app_of(fake, api_keys=KEYS, limits=WebLimits(waits=CONNECTIONS // 2))
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(
            serving(app, listen("127.0.0.1", 0), max_connections=CONNECTIONS, grace=1)
        )
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url))
        waits = [
            asyncio.create_task(client.get("/v1/tasks/task-1?wait=60", headers={"Authorization": f"Bearer {ANN}"}))
            for _ in range(requests)
        ]
        while len(fake.waits) < CONNECTIONS // 4:  # noqa: ASYNC110 - the waits have no event
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {BOB}"}) as other:
            for _ in range(3):
                assert (await other.get("/v1/tasks/task-2")).status_code == 200
            with pytest.raises(httpx.ReadTimeout):
                await other.get("/v1/tasks/task-2?wait=60", timeout=0.3)
        assert len(fake.waits) == CONNECTIONS // 4 + 1
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def test_slow_bodies_of_one_client_leave_connections_for_others() -> None:
    """Requests beyond the share of a client are answered at once, and their connections are the first to be closed."""
    fake = FakeApplication()
    fake.add(a_task(2, client="bob"))
    app = app_of(fake, api_keys=KEYS, limits=WebLimits(requests=CONNECTIONS))
    head = (
        f"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ANN}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    ).encode()
    async with AsyncExitStack() as stack:
        socket = listen("127.0.0.1", 0)
        url = await stack.enter_async_context(serving(app, socket, max_connections=CONNECTIONS, grace=1))
        answers = []
        for _ in range(CONNECTIONS):
            reader, writer = await asyncio.open_connection(*socket.getsockname())
            stack.callback(writer.close)
            writer.write(head)
            answers.append(asyncio.create_task(reader.readline()))
        done, waiting = await asyncio.wait(answers, timeout=1)
        assert {answer.result() for answer in done} == {b"HTTP/1.1 503 Service Unavailable\r\n"}
        assert len(waiting) == CONNECTIONS // 2
        async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {BOB}"}) as other:
            assert (await other.get("/v1/tasks/task-2")).status_code == 200
        for answer in waiting:
            answer.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_waits_that_ended_count_no_more() -> None:
    """A client may wait again and again, for one task after the other."""

    class Ending(FakeApplication):
        """An application whose tasks complete as soon as somebody waits for them."""

        async def wait(self, topic: str, seconds: float) -> bool:
            """End the task."""
            self.waits.append((topic, seconds))
            name = topic.removeprefix("task:")
            self.tasks_by_id[name] = replace(self.tasks_by_id[name], status=Status.COMPLETED)
            return True

    fake = Ending()
    for number in range(6):
        fake.add(a_task(number, client="ann"))
    app = app_of(fake, api_keys=KEYS, limits=WebLimits(waits=2))
    async with client_of(app, ANN) as client:
        for number in range(6):
            assert (await client.get(f"/v1/tasks/task-{number}?wait=5")).json()["status"] == "completed"
    assert len(fake.waits) == 6
