"""A provider, with and without its rate limit."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from service.domain.task import Fact, Json, UpstreamId

PayloadMatch = Callable[[str], bool]
"""Returns whether the payload of a task at the provider is the token of the submission that is searched for."""


@dataclass(frozen=True, kw_only=True)
class ProviderRequest:
    """A request to a provider: the parameters with their media, and our tokens."""

    model: str
    params: Json = field(repr=False)
    payload: str = field(repr=False)
    meta_data: str | None = None
    callback_url: str | None = field(default=None, repr=False)


class Provider(Protocol):
    """One provider. Every method may raise Throttled and the errors that it lists."""

    name: str

    async def create(self, request: ProviderRequest) -> Fact:
        """Submit; return the fact in the reply, which may be settled already, or failed without an id.

        Raises NotSent, Refused, ReplyLost or Throttled.
        """

    async def fetch(self, upstream_id: UpstreamId) -> Fact:
        """Return the state of a task; raises UnknownTask, ProviderUnavailable, Refused (our key) or Throttled."""

    async def cancel(self, upstream_id: UpstreamId) -> None:
        """Cancel a task; raises Conflict with the provider's reason, UnknownTask, ProviderUnavailable or Throttled."""

    async def find(self, matches: PayloadMatch, *, since: datetime, until: datetime) -> Fact | None:
        """Search the provider's list for a submission by its payload; None if it or the list does not exist."""

    @property
    def lists(self) -> bool:
        """Whether the provider has a list that `find` can search."""


class RateLimitedProvider(Provider, Protocol):
    """A provider with one rate limit for all requests."""

    async def create(self, request: ProviderRequest, *, sent: Callable[[], None] | None = None) -> Fact:
        """Submit; `sent` is called after the wait, just before anything is sent. See `Provider.create`."""

    @property
    def pause(self) -> timedelta:
        """The time from now during which no request is sent, because the provider requested a pause."""

    def ready(self) -> int:
        """Return how many requests may be sent now without waiting."""

    def spare(self) -> int:
        """Return how many requests of little importance may be sent now; enough are left for others."""

    def hold_bytes(self, size: int) -> AbstractAsyncContextManager[None]:
        """Wait until `size` more bytes of requests may be held in memory."""
