"""Request bodies: limits on size, time and total memory."""

import anyio
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from service.api import request_bodies as bodies_module
from service.api.problems import ProblemError
from service.api.request_bodies import BODY_COMPLETE, BodyLimits, BodyReader
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


@pytest.mark.parametrize(
    ("size", "complete", "buffered"), [(2, True, True), (2, False, False), (None, True, False), (LARGE, True, False)]
)
async def test_only_a_small_received_body_is_buffered(size: int | None, complete: bool, buffered: bool) -> None:
    """Any other body is read with a time limit, and counts against the total memory."""
    headers = {} if size is None else {"content-length": str(size)}
    request = a_request(a_part(b"{}"), headers=headers)
    request.scope["state"] = {BODY_COMPLETE: True} if complete else {}
    assert await BodyReader(LIMITS).read_buffered(request) == (b"{}" if buffered else None)


async def test_buffered_body_is_checked() -> None:
    """A body larger than announced and a disconnect are errors."""
    for message in (a_part(b"x" * LARGE), {"type": "http.disconnect"}):
        request = a_request(message, headers={"content-length": "2"})
        request.scope["state"] = {BODY_COMPLETE: True}
        with pytest.raises((ProblemError, ClientDisconnect)):
            await BodyReader(LIMITS).read_buffered(request)


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


async def test_large_bodies_wait_for_memory_and_small_ones_do_not() -> None:
    """Without free memory a large body stays unread, while a small one is read."""
    bodies = BodyReader(LIMITS)
    headers = {"content-length": str(2 * LARGE)}
    read: list[str] = []
    reading, release = anyio.Event(), anyio.Event()

    async def first() -> None:
        async with bodies.read(a_request(a_part(b"1"), headers=headers)):
            read.append("first")
            reading.set()
            await release.wait()

    async def second() -> None:
        async with bodies.read(a_request(a_part(b"2"), headers=headers)):
            read.append("second")

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await reading.wait()
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        async with bodies.read(a_request(a_part(b"s"), headers={"content-length": "1"})):
            read.append("small")
        release.set()
    assert read == ["first", "small", "second"]


async def test_wait_for_memory_ends_with_503() -> None:
    """The wait for memory has a limit; the 503 has Retry-After."""
    bodies = BodyReader(BodyLimits(max_bytes=LARGE, max_total_bytes=LARGE, receive_timeout=5, memory_timeout=0.01))
    headers = {"content-length": str(LARGE)}
    async with bodies.read(a_request(a_part(b"1"), headers=headers)):
        with pytest.raises(ProblemError) as error:
            async with bodies.read(a_request(a_part(b"2"), headers=headers)):
                pass
    assert (error.value.problem.status, "Retry-After" in error.value.problem.headers) == (503, True)
