"""Request bodies: limits on size, time and total memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from service.api import request_bodies as bodies_module
from service.api.authentication import Caller
from service.api.problems import TOO_BUSY, ProblemError
from service.api.request_bodies import BodyLimits, BodyReader
from service.domain.errors import UnreadableBody

LARGE = bodies_module.SMALL + 1
LIMITS = BodyLimits(max_bytes=2 * LARGE, max_total_bytes=3 * LARGE, receive_timeout=5, memory_timeout=5)


def a_request(*messages: Message, headers: dict[str, str] | None = None, then: anyio.Event | None = None) -> Request:
    """Return a request whose body is `messages`; after them it waits for `then`, or disconnects."""
    left = list(messages)

    async def receive() -> Message:
        if not left and then:
            await then.wait()
        return left.pop(0) if left else {"type": "http.disconnect"}

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


def a_part(body: bytes, *, more: bool = False) -> Message:
    """Return one message of a body."""
    return {"type": "http.request", "body": body, "more_body": more}


async def test_parts_of_a_body_are_joined() -> None:
    """Parts are joined in order; empty ones are allowed."""
    request = a_request(a_part(b"ab", more=True), a_part(b"", more=True), a_part(b"c"))
    async with BodyReader(LIMITS).read(request) as body:
        assert body == b"abc"


async def test_announced_size_over_the_limit_is_refused_unread() -> None:
    """The 413 is sent before any part of the body is read."""
    request = a_request(headers={"content-length": str(LIMITS.max_bytes + 1)})
    with pytest.raises(ProblemError) as error:
        async with BodyReader(LIMITS).read(request):
            pass
    assert error.value.problem.status == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "", " 5", "٣"])
async def test_invalid_content_length_is_unreadable(length: str) -> None:
    """A Content-Length that is no number is an error of the sender."""
    request = a_request(a_part(b"x"))
    request.scope["headers"] = [(b"content-length", length.encode("utf-8"))]
    with pytest.raises(UnreadableBody):
        async with BodyReader(LIMITS).read(request):
            pass


async def test_body_that_does_not_arrive_in_time_is_408() -> None:
    """A sender that stops in the middle of a body gets a 408."""
    request = a_request(a_part(b"x", more=True), then=anyio.Event())
    with pytest.raises(ProblemError) as error:
        async with BodyReader(
            BodyLimits(max_bytes=100, max_total_bytes=100, receive_timeout=0.01, memory_timeout=5)
        ).read(request):
            pass
    assert error.value.problem.status == 408


async def test_early_disconnect_is_an_error() -> None:
    """A truncated body is never returned."""
    with pytest.raises(ClientDisconnect):
        async with BodyReader(LIMITS).read(a_request(a_part(b"half", more=True))):
            pass


def large(*, name: str = "alice", then: anyio.Event | None = None, count: int = 1) -> Request:
    """Return a request of the client `name` with `count` large parts; after them it waits for `then`."""
    request = a_request(
        *[a_part(b"x" * LARGE, more=then is not None or n < count - 1) for n in range(count)], then=then
    )
    request.scope["state"] = {"caller": Caller(name=name)}
    return request


async def _read(bodies: BodyReader, request: Request, read: list[str], label: str) -> None:
    try:
        async with bodies.read(request):
            read.append(label)
    except ProblemError as error:
        read.append(f"{label}: {error.problem.status}")
    except ClientDisconnect:
        read.append(f"{label}: gone")


async def test_announced_bytes_take_no_memory() -> None:
    """Bodies that were only announced, all of them, leave the whole memory to one that arrives."""
    bodies, never = BodyReader(LIMITS), anyio.Event()
    async with anyio.create_task_group() as group:
        for _ in range(50):
            request = a_request(headers={"content-length": str(2 * LARGE)}, then=never)
            group.start_soon(_read, bodies, request, [], "silent")
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(1):
            async with bodies.read(large()) as body:
                assert len(body) == LARGE
        group.cancel_scope.cancel()


async def test_bodies_of_one_client_do_not_delay_another() -> None:
    """While one client's bodies wait for memory, another client's body and small ones are read at once."""
    bodies, hold, read = BodyReader(replace(LIMITS, max_total_bytes=4 * LARGE)), anyio.Event(), list[str]()

    async def occupy(label: str) -> None:
        async with bodies.read(large(count=2)):
            read.append(label)
            await hold.wait()

    async with anyio.create_task_group() as group:
        for label in ("in the pool", "beside it", "waiting"):
            group.start_soon(occupy, label)
            await anyio.wait_all_tasks_blocked()
        assert read == ["in the pool", "beside it"]
        with anyio.fail_after(1):
            await _read(bodies, large(name="bob"), read, "bob's")
            await _read(bodies, a_request(a_part(b"s")), read, "small")
        hold.set()
    assert read == ["in the pool", "beside it", "bob's", "small", "waiting"]


async def test_wait_for_memory_ends_with_503() -> None:
    """The wait for memory has a limit; the 503 has Retry-After."""
    bodies, hold, read = BodyReader(replace(LIMITS, max_total_bytes=1, memory_timeout=0.01)), anyio.Event(), list[str]()

    async def occupy() -> None:
        async with bodies.read(large()):
            await hold.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(occupy)
        await anyio.wait_all_tasks_blocked()
        await _read(bodies, large(name="bob"), read, "bob's")
        hold.set()
    assert read == ["bob's: 503"]
    assert "Retry-After" in TOO_BUSY.headers


class Sender:
    """A sender of `size` bytes every `pause` seconds of a clock that is moved, not waited for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, size: int, pause: float) -> None:
        self.size, self.pause, self.now, self.parts = size, pause, 0.0, 0
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self)
        monkeypatch.setattr(asyncio, "timeout", self._timeout)

    def time(self) -> float:
        """Return the moved time."""
        return self.now

    @asynccontextmanager
    async def _timeout(self, seconds: float) -> AsyncIterator[None]:
        if self.pause > seconds:
            raise TimeoutError
        yield

    async def receive(self) -> Message:
        """Return the next part, after the pause."""
        self.now += self.pause
        self.parts += 1
        return a_part(b"x" * self.size, more=True)


@pytest.mark.parametrize(
    ("size", "pause", "seconds"), [(1, 6.0, 12), (1, 0.5, 12), (0, 0.1, 11), (1 << 20, 9.9, None), (LARGE, 0.1, None)]
)
async def test_sender_slower_than_the_minimum_rate_is_ended(
    monkeypatch: pytest.MonkeyPatch, size: int, pause: float, seconds: int | None
) -> None:
    """Bytes one by one end with a 408 within seconds; a sender that keeps the rate reaches the size limit."""
    sender = Sender(monkeypatch, size=size, pause=pause)
    limits = replace(LIMITS, max_bytes=1 << 25, max_total_bytes=1 << 26, receive_timeout=10)
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, sender.receive)
    with pytest.raises(ProblemError) as error:
        async with BodyReader(limits).read(request):
            pass
    assert error.value.problem.status == (413 if seconds is None else 408)
    assert seconds is None or sender.now <= seconds
