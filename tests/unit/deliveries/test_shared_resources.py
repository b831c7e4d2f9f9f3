"""Resources that deliveries of one process share: opened once, opened again after an error, closed at the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest

from service import Event, Handlers, Tools
from service.deliveries import shared_resources
from service.deliveries.shared_resources import HandlerResources, SharedResources
from service.testing import HandlerTest


class Opened:
    """Counts what is opened and closed; the first `failures` openings fail."""

    def __init__(self, failures: int = 0) -> None:
        self.opened = self.closed = 0
        self._failures = failures

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[int]:
        """Yield the number of the opening; a task group, as many libraries have one, must end in the same task."""
        async with anyio.create_task_group():
            self.opened += 1
            if self.opened <= self._failures:
                raise ConnectionError("not yet")
            try:
                yield self.opened
            finally:
                self.closed += 1


async def test_opened_once_and_closed_at_the_end() -> None:
    """Calls at the same time share one opening; names and handlers have their own."""
    shared, opened = SharedResources(), Opened()
    bot, log = (HandlerResources(handler=name, shared=shared) for name in ("bot", "log"))
    assert await asyncio.gather(*(bot.get("line", opened) for _ in range(3))) == [1, 1, 1]
    assert [await bot.get("other", opened), await log.get("line", opened), await bot.get("line", opened)] == [2, 3, 1]
    await shared.close()
    assert opened.closed == 3
    await shared.close()


async def test_failed_opening_is_tried_again() -> None:
    """Those who wait receive the error, and the next call opens anew."""
    shared, opened = SharedResources(), Opened(failures=1)
    resources = HandlerResources(handler="bot", shared=shared)
    errors = await asyncio.gather(*(resources.get("line", opened) for _ in range(2)), return_exceptions=True)
    assert len([error for error in errors if isinstance(error, ExceptionGroup)]) == 2
    assert await resources.get("line", opened) == 2
    await shared.close()
    assert opened.closed == 1


async def test_caller_that_stops_waiting_ends_no_opening() -> None:
    """An attempt that times out leaves the opening to the others."""
    go, opened = asyncio.Event(), 0

    @asynccontextmanager
    async def slow() -> AsyncIterator[str]:
        nonlocal opened
        opened += 1
        await go.wait()
        yield "open"

    shared = SharedResources()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await shared.get("bot", "line", slow)
    go.set()
    assert (await shared.get("bot", "line", slow), opened) == ("open", 1)
    await shared.close()


@pytest.mark.parametrize("end", ["error", "never"])
async def test_closing_is_limited(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resource whose end fails or takes too long does not keep the process."""
    monkeypatch.setattr(shared_resources, "CLOSE_TIMEOUT", 0.05)

    @asynccontextmanager
    async def stubborn() -> AsyncIterator[str]:
        yield "open"
        if end == "error":
            raise ConnectionError("lost")
        await asyncio.Event().wait()

    shared = SharedResources()
    await shared.get("bot", "line", stubborn)
    async with asyncio.timeout(5):
        await shared.close()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("shared")]


async def test_opening_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """An opening without an end fails, so that a later call can open anew."""
    monkeypatch.setattr(shared_resources, "OPEN_TIMEOUT", 0.05)

    @asynccontextmanager
    async def endless() -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    with pytest.raises(TimeoutError):
        await SharedResources().get("bot", "line", endless)


async def test_handler_shares_what_it_opens() -> None:
    """Deliveries get the same object by `tools.shared`, and the end of the process closes it."""
    handlers, opened, seen = Handlers(), Opened(), list[int]()

    def open_line() -> AbstractAsyncContextManager[int]:
        return opened()

    @handlers.on(name="bot")
    async def bot(_event: Event, tools: Tools) -> None:
        seen.append(await tools.shared("line", open_line))

    async with HandlerTest(handlers) as test:
        assert (await test.deliver()).delivered
        assert (await test.deliver()).delivered
        assert opened.closed == 0
    assert (seen, opened.opened, opened.closed) == ([1, 1], 1, 1)
