"""Pages of lists: bounded in rows and in bytes, read and encoded in small steps."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from starlette.responses import Response

from service.api.endpoints import encode_json
from service.api.query_params import cursor_of
from service.domain.task import Json

MAX_PAGE_BYTES = 1024 * 1024
"""Size after which a page ends early; a single larger row is a page of its own."""

FIRST_ROWS = 4
"""Rows that are read before their size is known."""

STEP_BYTES = 128 * 1024
"""Bytes of rows that are read and encoded at once; a larger page is made in several steps."""

STEP_PAUSE = 0.01
"""Seconds between two steps, in which other requests run. Large pages of one client are made one after the other."""


class Row(Protocol):
    """A row of a list."""

    @property
    def id(self) -> str:
        """Return its id, from which its cursor is made."""


R = TypeVar("R", bound=Row)


@dataclass(kw_only=True, slots=True)
class PageBody:
    """The encoded rows of a page."""

    rows: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, row: Json) -> bool:
        """Encode and add a row; return False, and add nothing, when the page would be too large."""
        encoded = encode_json(row)
        if self.rows and self.size + len(encoded) > MAX_PAGE_BYTES:
            return False
        self.rows.append(encoded)
        self.size += len(encoded)
        return True

    def rows_of_a_step(self) -> int:
        """Return about how many rows the next step has, by the mean size of those so far; at least one."""
        return max(1, STEP_BYTES * len(self.rows) // max(self.size, 1))

    def response(self, next_cursor: str | None) -> Response:
        """Return the page; `next_cursor` is None on the last one."""
        end = json.dumps(next_cursor).encode()
        body = b'{"data":[' + b",".join(self.rows) + b'],"next_cursor":' + end + b"}"
        return Response(body, media_type="application/json")


class PageTurns:
    """Makes the large pages of each client one after the other, with pauses, so that none takes the whole process."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
        """Yield the function to call between two steps, with the size of the page; only a large page waits in it."""
        lock = self._locks.setdefault(client, asyncio.Lock())
        async with AsyncExitStack() as stack:
            held = False

            async def pause(size: int) -> None:
                nonlocal held
                if size < STEP_BYTES // 2:
                    await asyncio.sleep(0)
                    return
                if not held:
                    held = True
                    await stack.enter_async_context(lock)
                await asyncio.sleep(STEP_PAUSE)

            yield pause


async def page_response(
    kind: str,
    read: Callable[[int, str | None], Awaitable[Sequence[R]]],
    render: Callable[[R], Json],
    *,
    limit: int,
    cursor: str | None,
    pause: Callable[[int], Awaitable[None]],
    rest: Callable[[], str | None] = lambda: None,
    position_after: Callable[[str], str] = str,
) -> Response:
    """Return a page of at most `limit` rows and MAX_PAGE_BYTES, after the position `cursor`.

    `position_after` returns the position after the row with an id: the id itself, unless its place may change.
    `rest` returns the position to continue after when `read` has returned fewer rows than it could; None at the end.

    `read` returns at most a number of rows after a position. It is called for few rows at a time, with a
    `pause` between, so that neither reading nor encoding them holds up other requests.
    """
    page, last, wanted = PageBody(), cursor, min(limit + 1, FIRST_ROWS)
    while True:
        rows = await read(wanted, last)
        for row in rows:
            if len(page.rows) == limit or not page.add(render(row)):
                return page.response(cursor_of(kind, last or ""))
            last = position_after(row.id)
        if len(rows) < wanted:
            left = rest()
            return page.response(left and cursor_of(kind, left))
        wanted = min(limit + 1 - len(page.rows), page.rows_of_a_step())
        await pause(page.size)
