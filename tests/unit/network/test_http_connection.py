"""One connection over HTTP/1.1: when it is used again, what it sends, and what it makes of odd responses."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpcore
import httpx
import pytest

from service.network.dialing import Dialer
from service.network.http_connection import HttpConnection

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
LARGE = 8 * 1024 * 1024
TIMEOUT = 10.0
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers each request with the next of `answers`; `requests` are the heads and bodies that came, by connection."""

    def __init__(self, *answers: bytes | Answer) -> None:
        self.answers = list(answers)
        self.requests: list[list[bytes]] = []
        self.closed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its client ends it, or an answer does."""
        mine: list[bytes] = []
        self.requests.append(mine)
        try:
            while not writer.is_closing() and (head := await reader.readuntil(b"\r\n\r\n")):
                answer = self.answers.pop(0)
                if callable(answer):
                    mine.append(head)
                    await answer(reader, writer)
                else:
                    mine.append(head + await reader.readexactly(_length(head)))
                    writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.closed += 1


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Callable[..., Awaitable[httpx.Response]]]:
    """Run `server`, and yield a function that sends a request to it on one connection and reads the response."""
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/tasks?page=2"
    connection = HttpConnection(Dialer(), ssl.create_default_context())

    async def send(method: str = "POST", body: bytes = b"{}", *, read: bool = True) -> httpx.Response:
        request = httpx.Request(method, url, content=body, headers={"X-Name": "value"})
        request.stream = _Parts(body) if body else httpx.ByteStream(b"")
        async with asyncio.timeout(TIMEOUT):
            response = await connection.handle_async_request(request)
            try:
                if read:
                    await response.aread()
            finally:
                await response.aclose()
        return response

    async with listener:
        try:
            yield send
        finally:
            await connection.aclose()


class _Parts(httpx.AsyncByteStream):
    """A body in parts."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), 65536):
            yield self._body[start : start + 65536]


async def closes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """End the connection without an answer."""
    writer.close()


async def test_requests_share_a_connection() -> None:
    """A connection is kept; the request arrives with its method, target, headers and body."""
    server = Server(OK, b"HTTP/1.1 404 Gone Away\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    async with connected(server) as send:
        assert (await send()).content == b"{}"
        response = await send("GET", b"")
    assert (response.status_code, response.content) == (404, b"abcde")
    [[first, second]] = server.requests
    assert first.startswith(b"POST /tasks?page=2 HTTP/1.1\r\n")
    assert b"\r\nX-Name: value\r\n" in first
    assert first.endswith(b"\r\n\r\n{}")
    assert second.startswith(b"GET /tasks?page=2 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale",
    ],
    ids=["close", "http-1.0", "bytes-behind"],
)
async def test_connection_that_cannot_be_used_again_is_replaced(answer: bytes) -> None:
    """What the other side closes, or writes more on than was sent for, carries no second request."""
    server = Server(answer, OK)
    async with connected(server) as send:
        assert (await send()).content == b"{}"
        assert (await send()).content == b"{}"
    assert [len(requests) for requests in server.requests] == [1, 1]


@pytest.mark.parametrize("unexpected", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
async def test_idle_connection_that_the_server_ends_is_replaced(unexpected: bytes) -> None:
    """A request is not sent on a connection that was closed, or on which the server spoke, while it was idle."""

    async def answer_and_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2)
        writer.write(OK)
        await writer.drain()
        await asyncio.wait_for(answered.wait(), TIMEOUT)
        writer.write(unexpected)
        writer.close()
        await writer.wait_closed()
        ended.set()

    answered, ended = asyncio.Event(), asyncio.Event()
    server = Server(answer_and_end, OK)
    async with connected(server) as send:
        await send()
        answered.set()
        await asyncio.wait_for(ended.wait(), TIMEOUT)
        assert (await send()).status_code == 200
    assert [len(requests) for requests in server.requests] == [1, 1]


async def test_response_that_is_not_read_ends_the_connection() -> None:
    """The rest of a response that nobody reads is not taken for the next one."""
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc", OK)
    async with connected(server) as send:
        await send(read=False)
        assert (await send()).content == b"{}"
    assert [len(requests) for requests in server.requests] == [1, 1]


async def test_interim_responses_are_skipped() -> None:
    """100 and 103 precede the response; 101 is none that was sent for."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with connected(Server(interim + OK, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n")) as send:
        assert (await send()).content == b"{}"
        with pytest.raises(httpx.RemoteProtocolError):
            await send()


@pytest.mark.parametrize(
    "answer",
    [
        closes,
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"<html>\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["no-answer", "half-a-head", "no-http", "half-a-body", "odd-chunk"],
)
async def test_broken_response_is_an_error_of_httpx(answer: bytes | Answer) -> None:
    """A lost or damaged response is a transport error, and the next request gets a new connection."""

    async def then_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if callable(answer):
            await answer(reader, writer)
            return
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = Server(then_close, OK)
    async with connected(server) as send:
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await send()
        assert (await send()).content == b"{}"


class RefusingStream(httpcore.AsyncNetworkStream):
    """A connection whose other side takes the first part of a request, answers, and takes no more."""

    def __init__(self) -> None:
        self.written = 0
        self.answers = [b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge", b""]
        self.closed = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109 - the interface
        """Return the answer, then the end."""
        return self.answers.pop(0)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - the interface
        """Fail after the first part."""
        self.written += 1
        if self.written > 1:
            raise httpcore.WriteError

    async def aclose(self) -> None:
        """Close."""
        self.closed = True


class RefusingBackend(httpcore.AsyncNetworkBackend):
    """Connects to a refusing server."""

    def __init__(self, stream: RefusingStream) -> None:
        self.stream = stream

    async def connect_tcp(self, *_: object, **__: object) -> RefusingStream:
        """Connect."""
        return self.stream


async def test_answer_before_the_end_of_the_request_is_read() -> None:
    """A server that refuses a large body, and closes before it has read it, is understood."""
    stream = RefusingStream()
    connection = HttpConnection(RefusingBackend(stream), ssl.create_default_context())
    headers = {"Host": "provider.test", "Content-Length": str(LARGE)}
    request = httpx.Request("POST", "http://provider.test/", headers=headers, stream=_Parts(bytes(LARGE)))
    response = await connection.handle_async_request(request)
    assert (response.status_code, await response.aread()) == (413, b"large")
    await response.aclose()
    assert stream.closed


async def test_large_body_arrives_whole() -> None:
    """A body of many parts is what was given, though the other side reads slower than it is sent."""
    server = Server(OK)
    body = bytes(range(256)) * (LARGE // 256)
    async with connected(server) as send:
        await send(body=body)
    [[request]] = server.requests
    assert request.partition(b"\r\n\r\n")[2] == body


async def test_cancelled_request_closes_its_connection() -> None:
    """A response that comes after its request was cancelled is not that of the next one."""

    async def hang(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        sent.set()
        await asyncio.sleep(TIMEOUT)

    sent = asyncio.Event()
    server = Server(hang, OK)
    async with connected(server) as send:
        sending = asyncio.ensure_future(send())
        await asyncio.wait_for(sent.wait(), TIMEOUT)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert (await send()).content == b"{}"
    assert len(server.requests) == 2


async def test_cancelled_handshake_closes_its_connection() -> None:
    """A server that accepts a connection and says nothing keeps no socket open here."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        begun.set()
        await reader.read()
        ended.set()
        writer.close()

    begun, ended = asyncio.Event(), asyncio.Event()
    listener = await asyncio.start_server(listen, "127.0.0.1", 0)
    request = httpx.Request("GET", f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/")
    connection = HttpConnection(Dialer(), ssl.create_default_context())
    async with listener:
        sending = asyncio.ensure_future(connection.handle_async_request(request))
        await asyncio.wait_for(begun.wait(), TIMEOUT)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await asyncio.wait_for(ended.wait(), TIMEOUT)


async def test_error_of_the_connection_has_the_name_of_httpx() -> None:
    """A host that cannot be connected to is a ConnectError, which says that nothing was sent."""
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    connection = HttpConnection(Dialer(), ssl.create_default_context())
    with pytest.raises(httpx.ConnectError):
        await connection.handle_async_request(httpx.Request("GET", f"http://127.0.0.1:{port}/"))
