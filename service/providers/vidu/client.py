"""Client of Vidu's own API."""

from collections.abc import Mapping
from datetime import UTC, datetime

import httpx

from service.domain.errors import ProviderUnavailable, Refused
from service.domain.ports.provider import PayloadMatch, ProviderRequest
from service.domain.task import Fact, UpstreamId
from service.providers.fields import correlation
from service.providers.http_client import ProviderHttp, params_with_tokens
from service.providers.pagination import Page, search
from service.providers.vidu.bodies import VIDU_TASK, read_vidu, vidu_error

MODELS = {"viduq2_pro_reference": "viduq2-pro"}
"""Vidu's name of each model."""

FIELDS = frozenset(
    {
        "images",
        "videos",
        "prompt",
        "duration",
        "seed",
        "aspect_ratio",
        "resolution",
        "bgm",
        "payload",
        "off_peak",
        "watermark",
        "wm_position",
        "wm_url",
        "meta_data",
        "callback_url",
    }
)
"""Every field that Vidu accepts besides `model`. It refuses any other one as FieldUnwanted."""

PAGE_SIZE = 50


class Vidu:
    """Vidu as a Provider, with cancel and list."""

    name = "vidu"
    lists = True
    models = tuple(MODELS)

    def __init__(self, transport: httpx.AsyncBaseTransport, *, base_url: str, key: str) -> None:
        self._http = ProviderHttp(
            transport, base_url=base_url, scheme="Token", key=key, shape=VIDU_TASK, error_reader=vidu_error
        )

    async def create(self, request: ProviderRequest) -> Fact:
        """Submit; raises NotSent, Refused (also for a model that Vidu lacks), ReplyLost or Throttled."""
        model = MODELS.get(request.model)
        if model is None:
            raise Refused("ModelUnavailable", f"Vidu's own API has no {request.model}; it has {', '.join(MODELS)}")
        params = {name: value for name, value in params_with_tokens(request).items() if name in FIELDS}
        return await self._http.create("/reference2video", {"model": model, **params})

    async def fetch(self, upstream_id: UpstreamId) -> Fact:
        """Return a task's state; raises UnknownTask, ProviderUnavailable, Refused or Throttled."""
        return await self._http.fetch("/tasks/{id}/creations", upstream_id)

    async def cancel(self, upstream_id: UpstreamId) -> None:
        """Cancel a task; raises Conflict with Vidu's reason, UnknownTask, ProviderUnavailable or Throttled."""
        await self._http.cancel("/tasks/{id}/cancel", upstream_id, {"id": upstream_id})

    async def find(self, matches: PayloadMatch, *, since: datetime, until: datetime) -> Fact | None:
        """Search the list for the task whose payload matches; raises ProviderUnavailable, Refused or Throttled.

        `since` and `until` limit the time at which Vidu created the task. None is certain: a list with more than 40
        pages raises ProviderUnavailable.
        """
        return await search(self.find_page, matches, since=since, until=until)

    async def find_page(
        self, matches: PayloadMatch, *, since: datetime, until: datetime, cursor: Mapping[str, str]
    ) -> Page:
        """Request one page of the list; return the task if the page holds it, else the cursor of the next page."""
        query: dict[str, str | int] = {
            "created_at.from": _timestamp(since),
            "created_at.to": _timestamp(until),
            "paper.pagesz": PAGE_SIZE,
            **(cursor or {"paper.page": "0"}),
        }
        page = await self._http.list_page("/tasks", query)
        tasks = page.get("tasks")
        if tasks is None:  # Vidu may leave out an empty list
            tasks = []
        if not isinstance(tasks, list):
            raise ProviderUnavailable("`tasks` in the provider's response is not a list")
        for task in tasks:
            if isinstance(task, dict) and (payload := correlation(task.get("payload"))) and matches(payload):
                return Page(fact=read_vidu(task, self._http.reading))
        return Page(next=_next_cursor(page.get("nextpagetoken"), cursor, full=len(tasks) >= PAGE_SIZE))


def _next_cursor(token: object, cursor: Mapping[str, str], *, full: bool) -> dict[str, str] | None:
    """Return the page token if there is one, else the next page number after a full page."""
    if isinstance(token, str) and token:
        return {"pager.page_token": token}
    page = int(cursor.get("paper.page", "0")) + 1
    return {"paper.page": str(page)} if full and "pager.page_token" not in cursor else None


def _timestamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
