"""Bodies: size, time, and how many bytes are in hand at once."""

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
    """Return a request whose body comes in `messages`; after them it waits for `then`, or disconnects."""
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


async def test_a_body_is_put_together_from_its_parts() -> None:
    """Parts are joined in order; empty ones do no harm."""
    request = a_request(a_part(b"ab", more=True), a_part(b"", more=True), a_part(b"c"))
    async with BodyReader(LIMITS).read(request) as body:
        assert body == b"abc"


@pytest.mark.parametrize(
    ("size", "whole", "there"), [(2, True, True), (2, False, False), (None, True, False), (LARGE, True, False)]
)
async def test_only_small_body_that_has_come_whole_is_at_hand(size: int | None, whole: bool, there: bool) -> None:
    """Any other has to be waited for, within its time and with room kept for it."""
    headers = {} if size is None else {"content-length": str(size)}
    request = a_request(a_part(b"{}"), headers=headers)
    request.scope["state"] = {BODY_COMPLETE: True} if whole else {}
    assert await BodyReader(LIMITS).read_buffered(request) == (b"{}" if there else None)


async def test_body_at_hand_is_held_to_its_length() -> None:
    """Nobody gets more in by a length that is not true, or by hanging up."""
    for message in (a_part(b"x" * LARGE), {"type": "http.disconnect"}):
        request = a_request(message, headers={"content-length": "2"})
        request.scope["state"] = {BODY_COMPLETE: True}
        with pytest.raises((ProblemError, ClientDisconnect)):
            await BodyReader(LIMITS).read_buffered(request)


async def test_an_announced_size_over_the_limit_is_refused_unread() -> None:
    """413 comes before any byte of the body is asked for."""
    request = a_request(headers={"content-length": str(LIMITS.max_bytes + 1)})
    with pytest.raises(ProblemError) as refused:
        async with BodyReader(LIMITS).read(request):
            pass
    assert refused.value.problem.status == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "", " 5", "٣"])
async def test_a_senseless_length_is_unreadable(length: str) -> None:
    """A Content-Length that is no number is the caller's fault."""
    request = a_request(a_part(b"x"))
    request.scope["headers"] = [(b"content-length", length.encode("utf-8"))]
    with pytest.raises(UnreadableBody):
        async with BodyReader(LIMITS).read(request):
            pass


async def test_a_body_that_does_not_arrive_in_time_is_408() -> None:
    """A sender who stops in the middle does not hold us for ever."""
    request = a_request(a_part(b"x", more=True), then=anyio.Event())
    with pytest.raises(ProblemError) as refused:
        async with BodyReader(
            BodyLimits(max_bytes=100, max_total_bytes=100, receive_timeout=0.01, memory_timeout=5)
        ).read(request):
            pass
    assert refused.value.problem.status == 408


async def test_a_connection_that_ends_early_is_no_body() -> None:
    """Half a body is never taken for a whole one."""
    with pytest.raises(ClientDisconnect):
        async with BodyReader(LIMITS).read(a_request(a_part(b"half", more=True))):
            pass


async def test_large_bodies_wait_unread_until_there_is_room_and_small_ones_pass() -> None:
    """With the room taken a large body is not even asked for, while a small one goes through."""
    bodies = BodyReader(LIMITS)
    headers = {"content-length": str(2 * LARGE)}
    read: list[str] = []
    asked, release = anyio.Event(), anyio.Event()

    async def first() -> None:
        async with bodies.read(a_request(a_part(b"1"), headers=headers)):
            read.append("first")
            asked.set()
            await release.wait()

    async def second() -> None:
        async with bodies.read(a_request(a_part(b"2"), headers=headers)):
            read.append("second")

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        await asked.wait()
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        async with bodies.read(a_request(a_part(b"s"), headers={"content-length": "1"})):
            read.append("small")
        release.set()
    assert read == ["first", "small", "second"]


async def test_the_wait_for_room_ends_with_503() -> None:
    """Who waits too long for room is told to come back."""
    bodies = BodyReader(BodyLimits(max_bytes=LARGE, max_total_bytes=LARGE, receive_timeout=5, memory_timeout=0.01))
    headers = {"content-length": str(LARGE)}
    async with bodies.read(a_request(a_part(b"1"), headers=headers)):
        with pytest.raises(ProblemError) as refused:
            async with bodies.read(a_request(a_part(b"2"), headers=headers)):
                pass
    assert (refused.value.problem.status, "Retry-After" in refused.value.problem.headers) == (503, True)
