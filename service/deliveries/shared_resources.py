"""What handlers open once in a process and share between deliveries, routes and jobs, such as a connection."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

OPEN_TIMEOUT = 60.0
"""Seconds that the opening of a resource may take."""

CLOSE_TIMEOUT = 3.0
"""Seconds that the end of the process waits for all resources."""

log = structlog.get_logger("boomerang.deliveries")

T = TypeVar("T")
Open = Callable[[], AbstractAsyncContextManager[Any]]


class SharedResources:
    """The open resources of one process, by handler and name."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, str], _Resource] = {}

    async def get(self, handler: str, name: str, open_: Open) -> Any:
        """Return what `open_()` yields: it is entered once, again only after an error, and exited by `close`.

        Callers at the same time wait for the same opening, and receive the same error.
        """
        resource = self._opened.get((handler, name))
        if resource is None or resource.failed:
            resource = self._opened[handler, name] = _Resource(f"{handler}/{name}", open_)
        return await asyncio.shield(resource.value)

    async def close(self) -> None:
        """Exit every resource; those that take longer than CLOSE_TIMEOUT together are canceled."""
        opened, self._opened = self._opened, {}
        for resource in opened.values():
            resource.closing.set()
        tasks = [resource.task for resource in opened.values()]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


class _Resource:
    """One resource: an asyncio task of its own enters and exits it, since a cancel scope must not change its task."""

    def __init__(self, name: str, open_: Open) -> None:
        self.closing = asyncio.Event()
        self.value: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.value.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.task = asyncio.create_task(self._hold(name, open_), name=f"shared {name}")

    @property
    def failed(self) -> bool:
        """Whether it could not be opened, or has ended."""
        return self.task.done() or (self.value.done() and (self.value.cancelled() or bool(self.value.exception())))

    async def _hold(self, name: str, open_: Open) -> None:
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(OPEN_TIMEOUT):
                    value = await stack.enter_async_context(open_())
                self.value.set_result(value)
                await self.closing.wait()
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            if self.value.done():
                log.warning("closing a shared resource failed", resource=name, error=type(error).__name__)
            else:
                self.value.set_exception(error)
        finally:
            self.value.cancel()


@dataclass(frozen=True, kw_only=True)
class HandlerResources:
    """The shared resources of one handler."""

    handler: str
    shared: SharedResources = field(repr=False)

    async def get(self, name: str, open_: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the resource `name`, opened at the first call."""
        value: T = await self.shared.get(self.handler, name, open_)
        return value
