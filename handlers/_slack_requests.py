"""Makes the requests of slack-sdk. It imports that library: import this module when it is first needed."""

import json
from http import HTTPStatus
from typing import Any

import httpx
from slack_sdk.errors import SlackClientError
from slack_sdk.signature import Clock
from slack_sdk.web.async_client import AsyncWebClient

from ._chat_http import bounded_body
from ._slack_api import pause_of

TIMEOUT = 15.0
"""Seconds for each step of a request."""


class RateLimited(SlackClientError):
    """Too many requests of one method: `pause` is in seconds."""

    def __init__(self, pause: int) -> None:
        super().__init__("too many requests")
        self.pause = pause


class NoAnswer(SlackClientError):
    """Slack could not be reached, or answered something that is not its API; the text has no address."""


class FixedClock(Clock):
    """A clock for the check of signatures."""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        """Return the seconds since 1970."""
        return self._now


class OperatorClient(AsyncWebClient):
    """Makes requests with the HTTP client of the service: its guard on addresses, proxies and certificates hold."""

    def __init__(self, http: httpx.AsyncClient, *, token: str, base_url: str) -> None:
        super().__init__(token=token, base_url=base_url)
        self._http = http

    async def _request(self, *, http_verb: str, api_url: str, req_args: dict[str, Any]) -> dict[str, Any]:
        """Return the answer as the library expects it; raises RateLimited, NoAnswer."""
        given = {name: req_args.get(name) for name in ("params", "data", "json", "headers")}
        request = self._http.build_request(http_verb, api_url, timeout=TIMEOUT, **given)
        try:
            response = await self._http.send(request, stream=True)
            body = await bounded_body(response)
        except httpx.HTTPError as error:
            raise NoAnswer(type(error).__name__) from error
        if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise RateLimited(pause_of(response))
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise NoAnswer(f"status {response.status_code} without an answer in JSON")
        return {"data": data, "headers": dict(response.headers), "status_code": response.status_code}
