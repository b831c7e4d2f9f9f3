"""Client of the Vtrix gateway."""

from datetime import datetime

import httpx

from service.domain.errors import Conflict
from service.domain.ports.provider import PayloadMatch, ProviderRequest
from service.domain.task import Fact, UpstreamId
from service.providers.http_client import ProviderHttp, params_with_tokens
from service.providers.vtrix.bodies import VTRIX_TASK, vtrix_error

GENERATION = "/model/v1/generation"
TASK = "/model/v1/generation/task/{id}"


class Vtrix:
    """Vtrix as a Provider. It can neither cancel nor list tasks."""

    name = "vtrix"
    lists = False

    def __init__(self, transport: httpx.AsyncBaseTransport, *, base_url: str, key: str) -> None:
        self._http = ProviderHttp(
            transport, base_url=base_url, scheme="Bearer", key=key, shape=VTRIX_TASK, error_reader=vtrix_error
        )

    async def create(self, request: ProviderRequest) -> Fact:
        """Submit; raises NotSent, Refused, ReplyLost or Throttled."""
        body = {"model": request.model, "input": [{"params": params_with_tokens(request)}]}
        return await self._http.create(GENERATION, body)

    async def fetch(self, upstream_id: UpstreamId) -> Fact:
        """Return a task's state; raises UnknownTask, ProviderUnavailable, Refused or Throttled."""
        return await self._http.fetch(TASK, upstream_id)

    async def cancel(self, upstream_id: UpstreamId) -> None:
        """Raise Conflict: Vtrix cannot cancel a task."""
        raise Conflict(f"Vtrix has no cancel; task {upstream_id} runs to its end")

    async def find(self, matches: PayloadMatch, *, since: datetime, until: datetime) -> Fact | None:  # noqa: ARG002 - the port
        """Return None: Vtrix has no list."""
        return None
