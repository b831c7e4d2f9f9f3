"""A client of a running service, and the two options that every command which uses it has."""

import json
import os
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial, wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import anyio
import click
import httpx

from service.cli import CommandFailed, Unreachable, UsageError
from service.cli.output import clean
from service.cli.response_checks import is_delivery, is_page, is_task
from service.domain.hosts import is_loopback
from service.domain.task import Json

DEFAULT_URL = "http://127.0.0.1:8080"
USAGE_STATUSES = frozenset({400, 401, 403, 413, 415, 422})
"""Answers that say that the request or the key is wrong, not that it could not be done."""
RETRYABLE_STATUSES = frozenset({408, 429, 502, 503, 504})
"""Answers that say that it may be done later."""
RESPONSE_TIMEOUT = 60.0
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Bytes of an answer: 200 tasks with the largest metadata have room."""


class Client(AbstractAsyncContextManager["Client"]):
    """Speaks to the service at `url` with the key `api_key`; every method may raise Failed, with the reason."""

    def __init__(
        self, url: str, api_key: str | None = None, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.url = _valid_url(url)
        self._http = httpx.AsyncClient(
            base_url=self.url + "/",
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {}),
            timeout=httpx.Timeout(RESPONSE_TIMEOUT, connect=5),
            trust_env=not is_loopback(urlsplit(self.url).hostname or ""),
            transport=transport,
        )

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def submit(self, task: Json, *, idempotency_key: str | None = None) -> Json:
        """Submit a task and return it. A key makes it safe to ask again; without one a fresh one is made."""
        headers = {"Idempotency-Key": str(uuid.uuid4()) if idempotency_key is None else idempotency_key}
        return await self._call("POST", "v1/tasks", is_task, json=task, headers=headers)

    async def task(self, task_id: str, *, wait: int = 0) -> Json:
        """Return a task, after at most `wait` seconds if it is not settled before."""
        return await self._call(
            "GET", f"v1/tasks/{_path_segment(task_id)}", is_task, params={"wait": wait} if wait else {}
        )

    async def tasks(self, **filters: object) -> Json:
        """Return a page of tasks; `filters` are status, model, limit and cursor."""
        return await self._call("GET", "v1/tasks", partial(is_page, is_row=is_task), params=_query(filters))

    async def history(self, task_id: str) -> list[Json]:
        """Return everything that happened to a task, oldest first."""
        rows = partial(is_page, is_row=lambda _: True)
        found: list[Json] = (await self._call("GET", f"v1/tasks/{_path_segment(task_id)}/events", rows))["data"]
        return found

    async def cancel(self, task_id: str) -> Json:
        """Cancel a task and return it."""
        return await self._call("POST", f"v1/tasks/{_path_segment(task_id)}/cancel", is_task)

    async def resubmit(self, task_id: str) -> Json:
        """Submit the same again as a new task, and return that."""
        return await self._call("POST", f"v1/tasks/{_path_segment(task_id)}/resubmit", is_task)

    async def deliveries(self, **filters: object) -> Json:
        """Return a page of deliveries; `filters` are status, handler, limit and cursor."""
        return await self._call("GET", "v1/deliveries", partial(is_page, is_row=is_delivery), params=_query(filters))

    async def replay(self, delivery_id: str) -> Json:
        """Put a delivery through again."""
        return await self._call("POST", f"v1/deliveries/{_path_segment(delivery_id)}/replay", bool)

    async def _call(self, method: str, path: str, is_valid: Callable[[Json], bool], **options: Any) -> Json:
        try:
            async with self._http.stream(method, path, **options) as response:
                content = await _read_body(response)
        except httpx.ConnectError:
            raise Unreachable(f"no service answers at {self.url}; start one with `boomerang serve`") from None
        except httpx.TimeoutException:
            raise Unreachable(f"{self.url} did not answer in time") from None
        except httpx.HTTPError as error:
            raise Unreachable(f"the connection to {self.url} failed: {type(error).__name__}") from None
        return _parse_response(response, content, is_valid)


async def _read_body(response: httpx.Response) -> bytes:
    """Return the body, at most MOST_ANSWER bytes of it; raises Failed for a longer or a packed one."""
    content = bytearray()
    if response.headers.get("content-encoding", "identity") != "identity":
        raise CommandFailed(_unexpected_response(response))
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > MAX_RESPONSE_BYTES:
            raise CommandFailed(_unexpected_response(response))
    return bytes(content)


def _valid_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(f"{clean(url)} is no address of a service; write one like {DEFAULT_URL}")
    return url.rstrip("/")


def _path_segment(text: str) -> str:
    return quote(text, safe="")


def _query(filters: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in filters.items() if value is not None}


def _parse_response(response: httpx.Response, content: bytes, is_valid: Callable[[Json], bool]) -> Json:
    try:
        body = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        body = None
    if response.is_success and isinstance(body, dict) and is_valid(body):
        return body
    raise _error_class(response.status_code)(_error_message(response, body))


def _error_class(status: int) -> type[CommandFailed]:
    if status in USAGE_STATUSES:
        return UsageError
    return Unreachable if status in RETRYABLE_STATUSES else CommandFailed


def _error_message(response: httpx.Response, body: object) -> str:
    if response.is_success or response.is_redirect or not isinstance(body, dict):
        return _unexpected_response(response)
    words = clean(body.get("detail") or body.get("title") or f"HTTP {response.status_code}").removesuffix(
        "; see errors"
    )
    if response.status_code == httpx.codes.UNAUTHORIZED:
        words += " (set BOOMERANG_API_KEY or --api-key)"
    faults = body.get("errors")
    return "\n".join([words, *map(_field_error, faults if isinstance(faults, list) else [])])


def _unexpected_response(response: httpx.Response) -> str:
    return f"the answer of {response.url.host} is not that of a Boomerang service (HTTP {response.status_code})"


def _field_error(fault: object) -> str:
    if not isinstance(fault, dict):
        return f"  {clean(fault)}"
    loc = fault.get("loc")
    place = ".".join(clean(part) for part in (loc if isinstance(loc, list) else ()))
    return f"  {place}: {clean(fault.get('msg', ''))}"


def _default_from(name: str, default: str | None) -> Callable[[], str | None]:
    """Return the environment's word on `name`, then that of the file .env, then `default`."""

    def find() -> str | None:
        if name in os.environ:
            return os.environ[name].strip() or default
        return _in_dotenv(name, Path(".env")) or default

    return find


def _in_dotenv(name: str, file: Path) -> str | None:
    from service.runtime.config.dotenv import read_dotenv  # noqa: PLC0415 - only commands that need it pay for it

    return read_dotenv(file).get(name)


def with_client(command: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Give a command --url and --api-key, and run it with a Client as its first argument."""

    @click.option("--url", default=_default_from("BOOMERANG_URL", DEFAULT_URL), help="The service; BOOMERANG_URL.")
    @click.option("--api-key", default=_default_from("BOOMERANG_API_KEY", None), help="Its key; BOOMERANG_API_KEY.")
    @wraps(command)
    def run(*, url: str, api_key: str | None, **options: Any) -> None:
        async def speak() -> None:
            async with Client(url, api_key) as client:
                await command(client, **options)

        anyio.run(speak)

    return run
