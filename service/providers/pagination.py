"""Looking for one task through a list that comes in pages, each page one request."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from service.domain.errors import ProviderUnavailable
from service.domain.task import Fact

MAX_PAGES = 40


@dataclass(frozen=True, kw_only=True)
class Page:
    """What one page of a list gave: the task that was looked for, else where the list goes on (None: at its end)."""

    fact: Fact | None = None
    next: Mapping[str, str] | None = None


class FindPage(Protocol):
    """One request for one page."""

    async def __call__(self, correlation: str, *, since: datetime, until: datetime, cursor: Mapping[str, str]) -> Page:
        """Return the page at `cursor`; {} is the first one."""


@runtime_checkable
class Paged(Protocol):
    """An upstream whose list is asked page by page, so that each request can be paced."""

    async def find_page(self, correlation: str, *, since: datetime, until: datetime, cursor: Mapping[str, str]) -> Page:
        """Return the page at `cursor`; {} is the first one."""


async def search(find_page: FindPage, correlation: str, *, since: datetime, until: datetime) -> Fact | None:
    """Return the task with this payload; None when the whole list lacks it; raises Unwell when the list has no end."""
    cursor: Mapping[str, str] = {}
    for _ in range(MAX_PAGES):
        page = await find_page(correlation, since=since, until=until, cursor=cursor)
        if page.fact is not None or page.next is None or page.next == cursor:
            return page.fact
        cursor = page.next
    raise ProviderUnavailable(f"the upstream's list goes on after {MAX_PAGES} pages")
