"""Makes the requests of python-telegram-bot. It imports that library: import this module when it is first needed."""

import json
from http import HTTPStatus
from typing import Any

import httpx
from telegram.error import NetworkError, TelegramError, TimedOut
from telegram.request import BaseRequest, RequestData

from ._chat_http import bounded_body

TIMEOUT = 15.0
"""Seconds for each step of a request, and for the answer to one without a file."""

SECONDS_PER_MB = 10.0
"""Further seconds for the answer to an upload: Telegram answers once it has processed the file."""

MAX_PAUSE = 3600
DEFAULT_PAUSE = 5
"""Seconds for which Telegram may ask at most, and what is waited if it names none."""


class FloodControl(TelegramError):
    """Too many requests: `pause` is in seconds. The library's own class warns of its attribute each time it is made."""

    def __init__(self, pause: int) -> None:
        super().__init__("too many requests")
        self.pause = pause


class OperatorRequest(BaseRequest):
    """Makes requests with the HTTP client of the service; the time for an upload grows with its size."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    @property
    def read_timeout(self) -> float:
        """Return the seconds for an answer to a request without a file."""
        return TIMEOUT

    async def initialize(self) -> None:
        """Do nothing: the client is open."""

    async def shutdown(self) -> None:
        """Do nothing: the client is not ours."""

    async def do_request(  # noqa: PLR0917 - signature of the library
        self,
        url: str,
        method: str,
        request_data: RequestData | None = None,
        read_timeout: Any = None,  # noqa: ARG002 - signature of the library
        write_timeout: Any = None,  # noqa: ARG002 - signature of the library
        connect_timeout: Any = None,  # noqa: ARG002 - signature of the library
        pool_timeout: Any = None,  # noqa: ARG002 - signature of the library
    ) -> tuple[int, bytes]:
        """Return the status and the body of the answer; no error contains the address, which has the token."""
        data = request_data.json_parameters if request_data else None
        files: Any = request_data.multipart_data if request_data else None
        request = self._http.build_request(method, url, data=data, files=files or None)
        megabytes = int(request.headers.get("content-length", "0")) / 1e6
        read = TIMEOUT + SECONDS_PER_MB * megabytes
        request.extensions["timeout"] = httpx.Timeout(TIMEOUT, read=read, write=2 * TIMEOUT).as_dict()
        try:
            response = await self._http.send(request, stream=True)
            body = await bounded_body(response)
        except httpx.TimeoutException as error:
            raise TimedOut from error
        except httpx.HTTPError as error:
            raise NetworkError(type(error).__name__) from error
        if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise FloodControl(_pause(body))
        return response.status_code, body


def _pause(body: bytes) -> int:
    try:
        return max(1, min(int(json.loads(body)["parameters"]["retry_after"]), MAX_PAUSE))
    except (ValueError, TypeError, LookupError, RecursionError):
        return DEFAULT_PAUSE
