"""Searches a paged list for one task. Each page is one request."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from service.domain.errors import ProviderUnavailable
from service.domain.ports.provider import PayloadMatch
from service.domain.task import Fact

MAX_PAGES = 40


@dataclass(frozen=True, kw_only=True)
class Page:
    """Result of one page: the task if the page holds it, else the cursor of the next page (None: last page)."""

    fact: Fact | None = None
    next: Mapping[str, str] | None = None


class FindPage(Protocol):
    """One request for one page."""

    async def __call__(
        self, matches: PayloadMatch, *, since: datetime, until: datetime, cursor: Mapping[str, str]
    ) -> Page:
        """Return the page at `cursor`; {} is the first page."""


@runtime_checkable
class Paged(Protocol):
    """A provider with a paged list, so that the rate limit applies to each page."""

    async def find_page(
        self, matches: PayloadMatch, *, since: datetime, until: datetime, cursor: Mapping[str, str]
    ) -> Page:
        """Return the page at `cursor`; {} is the first page."""


async def search(find_page: FindPage, matches: PayloadMatch, *, since: datetime, until: datetime) -> Fact | None:
    """Return the task whose payload matches, None if the complete list lacks it.

    Raises ProviderUnavailable if the list has more than 40 pages.
    """
    cursor: Mapping[str, str] = {}
    for _ in range(MAX_PAGES):
        page = await find_page(matches, since=since, until=until, cursor=cursor)
        if page.fact is not None or page.next is None or page.next == cursor:
            return page.fact
        cursor = page.next
    raise ProviderUnavailable(f"the provider's list has more than {MAX_PAGES} pages")
