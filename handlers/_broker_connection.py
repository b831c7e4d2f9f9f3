"""The port of the brokers: a connection that publishes, opened when it is needed and again after a failure."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from service import Reject, Retry

if TYPE_CHECKING:  # a process that publishes nothing needs no library of a broker
    from ._broker_message import Message

CONNECT_TIMEOUT = 10.0
PUBLISH_TIMEOUT = 10.0
CLOSE_TIMEOUT = 2.0
"""Seconds for each."""


class Connection(Protocol):
    """An open connection to a broker."""

    @property
    def alive(self) -> bool:
        """Whether another message can be published."""

    async def publish(self, message: "Message") -> None:
        """Return once the broker has confirmed that it keeps the message.

        Raises Retry or Reject with the fix for what the broker refuses, and one of its library's errors otherwise.
        """

    async def close(self) -> None:
        """Close the connection; it may be broken."""


Connect = Callable[[], Awaitable[Connection]]


class Publisher:
    """Publishes through one connection, which all deliveries of a process use at once.

    `name` is the broker's. `errors` are the errors of its library and its network: for them the broker is responsible.
    A connection that failed is replaced by the next message, and closed when its other messages have ended.
    """

    def __init__(self, name: str, connect: Connect, errors: tuple[type[Exception], ...]) -> None:
        self._name, self._connect, self._errors = name, connect, errors
        self._current: _Usage | None = None
        self._opening: asyncio.Task[_Usage] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def publish(self, message: "Message") -> None:
        """Publish a message; raises Retry when the broker does not confirm it in time."""
        usage = await self._usage()
        usage.messages += 1
        try:
            async with asyncio.timeout(PUBLISH_TIMEOUT):
                await usage.connection.publish(message)
        except (Retry, Reject):
            raise
        except TimeoutError:
            self._replace(usage)
            raise Retry(f"{self._name} did not confirm the message within {PUBLISH_TIMEOUT:g} s") from None
        except self._errors as error:
            self._replace(usage)
            raise Retry(f"{self._name} did not confirm the message: {_text(error)}") from error
        finally:
            usage.messages -= 1
            if not usage.connection.alive:
                self._replace(usage)
            self._close_unused(usage)

    async def close(self) -> None:
        """Close every connection within CLOSE_TIMEOUT."""
        if self._opening:
            self._opening.cancel()
        if self._current:
            self._current.messages = 0
            self._replace(self._current)
        await asyncio.gather(*self._closing)

    async def _usage(self) -> "_Usage":
        """Return the current connection; those who need a new one at the same time wait for the same attempt."""
        if self._current and self._current.connection.alive:
            return self._current
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name=f"connect {self._name}")
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._opening)

    async def _open(self) -> "_Usage":
        try:
            if self._current:
                self._replace(self._current)
            async with asyncio.timeout(CONNECT_TIMEOUT):
                self._current = _Usage(await self._connect())
        except TimeoutError:
            raise Retry(f"{self._name} cannot be reached: no answer within {CONNECT_TIMEOUT:g} s") from None
        except self._errors as error:
            raise Retry(f"{self._name} cannot be reached: {_text(error)}") from error
        finally:
            self._opening = None
        return self._current

    def _replace(self, usage: "_Usage") -> None:
        usage.replaced = True
        if self._current is usage:
            self._current = None
        self._close_unused(usage)

    def _close_unused(self, usage: "_Usage") -> None:
        if usage.replaced and not usage.closed and not usage.messages:
            usage.closed = True
            task = asyncio.create_task(_close(usage.connection), name=f"close {self._name}")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class _Usage:
    """A connection, and how many messages wait for their confirmation on it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.messages = 0
        self.replaced = self.closed = False


async def _close(connection: Connection) -> None:
    with suppress(Exception):  # of a broken connection; nothing waits for it
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await connection.close()


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
