"""The upstream: one provider, and the budget before it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from service.domain.task import Fact, Json, UpstreamId


@dataclass(frozen=True, kw_only=True)
class ProviderRequest:
    """What is asked of the upstream: parameters with media in place, and our tokens."""

    model: str
    params: Json = field(repr=False)
    payload: str = field(repr=False)
    meta_data: str | None = None
    callback_url: str | None = field(default=None, repr=False)


class Provider(Protocol):
    """One provider. Every method may raise Throttled; see each for what else."""

    name: str

    async def create(self, request: ProviderRequest) -> Fact:
        """Submit; return what the reply says (possibly already settled, possibly failed without an id).

        Raises NeverLeft, Refused, ReplyLost or Throttled.
        """

    async def fetch(self, upstream_id: UpstreamId) -> Fact:
        """Ask for a task's state; raises UnknownTask, Unwell, Refused (our key) or Throttled."""

    async def cancel(self, upstream_id: UpstreamId) -> None:
        """Ask to cancel; raises Conflict with the provider's reason, UnknownTask, Unwell or Throttled."""

    async def find(self, correlation: str, *, since: datetime, until: datetime) -> Fact | None:
        """Look for a submission by its payload token in the provider's list; None where it is not, or there is none."""

    @property
    def lists(self) -> bool:
        """Whether the provider has a list, so that `find` means something."""


class RateLimitedProvider(Provider, Protocol):
    """An upstream behind the one budget for every request to it."""

    async def create(self, request: ProviderRequest, *, sent: Callable[[], None] | None = None) -> Fact:
        """Submit; `sent` is called when the wait is over, just before anything is sent. See `Provider.create`."""

    @property
    def pause(self) -> timedelta:
        """How long no request will be sent from now on, because the provider asked for fewer."""

    def ready(self) -> int:
        """Return how many requests may go at this moment without waiting."""

    def hold_bytes(self, size: int) -> AbstractAsyncContextManager[None]:
        """Wait until `size` more bytes of requests may be held in memory."""
