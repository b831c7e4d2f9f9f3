"""The Vtrix gateway: submissions and questions out, facts in."""

from datetime import datetime

import httpx

from service.domain.errors import Conflict
from service.domain.ports.provider import ProviderRequest
from service.domain.task import Fact, UpstreamId
from service.providers.http_client import ProviderHttp, params_with_tokens
from service.providers.vtrix.bodies import read_vtrix, vtrix_error

GENERATION = "/model/v1/generation"


class Vtrix:
    """Vtrix as an Upstream: no cancel and no list."""

    name = "vtrix"
    lists = False

    def __init__(self, client: httpx.AsyncClient, *, base_url: str, key: str) -> None:
        self._http = ProviderHttp(client, base_url=base_url, scheme="Bearer", key=key, error_reader=vtrix_error)

    async def create(self, request: ProviderRequest) -> Fact:
        """Submit; raises NeverLeft, Refused, ReplyLost or Throttled."""
        body = {"model": request.model, "input": [{"params": params_with_tokens(request)}]}
        return await self._http.create(GENERATION, body, read_vtrix)

    async def fetch(self, upstream_id: UpstreamId) -> Fact:
        """Ask for a task's state; raises UnknownTask, Unwell, Refused or Throttled."""
        return await self._http.fetch(f"{GENERATION}/task/{{id}}", upstream_id, read_vtrix)

    async def cancel(self, upstream_id: UpstreamId) -> None:
        """Raise Conflict: nothing can be cancelled at Vtrix."""
        raise Conflict(f"Vtrix has no cancel; task {upstream_id} runs to its end")

    async def find(self, correlation: str, *, since: datetime, until: datetime) -> Fact | None:  # noqa: ARG002 - the port
        """Return None: Vtrix has no list."""
        return None
