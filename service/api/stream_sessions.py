"""Whether the session of a browser still lasts while a stream is sent to it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from service.api.authentication import Caller, Pages
from service.domain.errors import BoomerangError

CHECK_SECONDS = 1.0
"""Seconds for which a session that lasted counts as lasting when the next event is sent."""

Permitted = Callable[[], Awaitable[bool]]
"""Returns whether the stream may go on."""


@dataclass(kw_only=True)
class StreamSession:
    """The session with which a stream was begun; it ends by signing out, with its time, and with its key."""

    pages: Pages
    request: Request
    caller: Caller
    _checked_at: float = field(init=False)
    _lasts: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        self._checked_at = asyncio.get_running_loop().time()

    async def lasts(self) -> bool:
        """Return whether the session lasts, checked CHECK_SECONDS ago at most.

        While the database is away this is not known, and the stream goes on: it has no events then.
        """
        now = asyncio.get_running_loop().time()
        if self._lasts and now - self._checked_at >= CHECK_SECONDS:
            self._checked_at = now
            try:
                self._lasts = await self.pages.session(self.request) == (self.caller.key_id, self.caller.session)
            except BoomerangError:
                self._checked_at -= CHECK_SECONDS
        return self._lasts


def permission(pages: Pages | None, request: Request, caller: Caller) -> Permitted | None:
    """Return what checks the session of a caller; None for one with an API key, which lasts as long as the process."""
    return StreamSession(pages=pages, request=request, caller=caller).lasts if pages and caller.session else None
