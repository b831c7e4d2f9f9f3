"""Vidu's own API: submissions, questions, cancels and the list out, facts in."""

from collections.abc import Mapping
from datetime import UTC, datetime

import httpx

from service.domain.errors import ProviderUnavailable, Refused
from service.domain.ports.provider import ProviderRequest
from service.domain.task import Fact, Json, UpstreamId
from service.providers.fields import json_object
from service.providers.http_client import ProviderHttp, params_with_tokens
from service.providers.pagination import Page, search
from service.providers.vidu.bodies import read_vidu, vidu_error

MODELS = {"viduq2_pro_reference": "viduq2-pro"}
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
"""Every field that Vidu takes beside `model`; another one is refused as FieldUnwanted."""

PAGE_SIZE = 50


class Vidu:
    """Vidu as an Upstream, with a cancel and a list."""

    name = "vidu"
    lists = True

    def __init__(self, client: httpx.AsyncClient, *, base_url: str, key: str) -> None:
        self._http = ProviderHttp(client, base_url=base_url, scheme="Token", key=key, error_reader=vidu_error)

    async def create(self, request: ProviderRequest) -> Fact:
        """Submit; raises NeverLeft, Refused (a model that Vidu does not have, too), ReplyLost or Throttled."""
        return await self._http.create("/reference2video", _body(request), read_vidu)

    async def fetch(self, upstream_id: UpstreamId) -> Fact:
        """Ask for a task's state; raises UnknownTask, Unwell, Refused or Throttled."""
        return await self._http.fetch("/tasks/{id}/creations", upstream_id, read_vidu)

    async def cancel(self, upstream_id: UpstreamId) -> None:
        """Ask to cancel; raises Conflict with Vidu's reason, UnknownTask, Unwell or Throttled."""
        await self._http.cancel("/tasks/{id}/cancel", upstream_id, {"id": upstream_id})

    async def find(self, correlation: str, *, since: datetime, until: datetime) -> Fact | None:
        """Look through the list for the task with this payload; raises Unwell, Refused or Throttled.

        `since` and `until` bound the task's creation by Vidu's clock. None is a sure answer: a list that does not end
        within 40 pages is Unwell.
        """
        return await search(self.find_page, correlation, since=since, until=until)

    async def find_page(self, correlation: str, *, since: datetime, until: datetime, cursor: Mapping[str, str]) -> Page:
        """Ask for one page of the list, one request: the task on it, else where to go on."""
        query: dict[str, str | int] = {
            "created_at.from": _timestamp(since),
            "created_at.to": _timestamp(until),
            "paper.pagesz": PAGE_SIZE,
            **(cursor or {"paper.page": "0"}),
        }
        body = json_object(await self._http.list_page("/tasks", query))
        found = body.get("tasks")
        tasks = [] if found is None else found  # an empty list may be left out
        if not isinstance(tasks, list):
            raise ProviderUnavailable("the upstream's list of tasks is no list")
        matches = [task for task in tasks if isinstance(task, dict) and task.get("payload") == correlation]
        if matches:
            return Page(fact=read_vidu(matches[0]))
        return Page(next=_next_cursor(body, cursor, full=len(tasks) >= PAGE_SIZE))


def _body(request: ProviderRequest) -> Json:
    model = MODELS.get(request.model)
    if model is None:
        raise Refused("ModelUnavailable", f"Vidu's own API has no {request.model}; it has {', '.join(MODELS)}")
    return {"model": model} | {name: value for name, value in params_with_tokens(request).items() if name in FIELDS}


def _next_cursor(body: Json, cursor: Mapping[str, str], *, full: bool) -> dict[str, str] | None:
    token = body.get("next_page_token")
    if isinstance(token, str) and token:
        return {"pager.page_token": token}
    page = int(cursor.get("paper.page", "0")) + 1
    return {"paper.page": str(page)} if full and "pager.page_token" not in cursor else None


def _timestamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
