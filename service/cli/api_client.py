"""HTTP client of a running service, and the options --url and --api-key of the commands that use it."""

import os
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import anyio
import click
import httpx

from service.cli import Unreachable, UsageError
from service.cli import response_checks as checks
from service.cli.output import clean, console
from service.cli.responses import parse_response, read_body
from service.domain.errors import BadSetting
from service.domain.task import Json
from service.network.addresses import names_loopback
from service.network.connection_errors import tls_reason, transport_reason
from service.network.transport import VARIABLES, Outgoing, OutgoingTransport, outgoing

DEFAULT_URL = "http://127.0.0.1:8080"
URL_NAME, KEY_NAME = "BOOMERANG_URL", "BOOMERANG_API_KEY"
RESPONSE_TIMEOUT = 60.0
"""Maximum wait for data in seconds."""


class Client(AbstractAsyncContextManager["Client"]):
    """Calls the API of the service at `url` with the key `api_key`.

    `variables` are those of the environment that name proxies and certificates; a loopback address uses no proxy.
    Raises UsageError for an address or a variable that cannot be used. Every method raises CommandFailed with the
    reason: UsageError for an invalid request or key, Unreachable if a later try may succeed.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.url = _checked_url(url)
        self._http = httpx.AsyncClient(
            base_url=self.url + "/",
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {}),
            timeout=httpx.Timeout(RESPONSE_TIMEOUT, connect=5),
            trust_env=False,
            transport=transport or OutgoingTransport(_outgoing(self.url, variables or {})),
        )

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def submit(self, task: Json, *, idempotency_key: str | None = None) -> Json:
        """Submit a task and return it. `idempotency_key` makes a repeat safe; the default is a new key."""
        key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        return await self._call("POST", "v1/tasks", checks.is_task, json=task, headers={"Idempotency-Key": key})

    async def task(self, task_id: str, *, wait: int = 0) -> Json:
        """Return a task when it settles, or after `wait` seconds at the latest."""
        query = _query({"wait": wait or None})
        return await self._call("GET", f"v1/tasks/{_path_segment(task_id)}", checks.is_task, params=query)

    async def tasks(self, **filters: object) -> Json:
        """Return a page of tasks; `filters` are status, model, limit and cursor."""
        return await self._page("v1/tasks", checks.is_task, filters)

    async def history(self, task_id: str) -> list[Json]:
        """Return the history of a task, oldest first, from all pages."""

        async def read_page(**filters: object) -> Json:
            return await self._page(f"v1/tasks/{_path_segment(task_id)}/events", lambda _: True, filters)

        return await all_rows(read_page)

    async def cancel(self, task_id: str) -> Json:
        """Cancel a task and return it."""
        return await self._call("POST", f"v1/tasks/{_path_segment(task_id)}/cancel", checks.is_task)

    async def resubmit(self, task_id: str) -> Json:
        """Submit a task again and return the new task."""
        return await self._call("POST", f"v1/tasks/{_path_segment(task_id)}/resubmit", checks.is_task)

    async def deliveries(self, **filters: object) -> Json:
        """Return a page of deliveries; `filters` are status, handler, fault, limit and cursor."""
        return await self._page("v1/deliveries", checks.is_delivery, filters)

    async def replay(self, delivery_id: str) -> Json:
        """Replay a delivery."""
        return await self._call("POST", f"v1/deliveries/{_path_segment(delivery_id)}/replay", bool)

    async def replay_many(self, wanted: Json) -> Json:
        """Replay, or count, what a filter selects; return the report of one call."""
        return await self._call("POST", "v1/deliveries/replay", checks.is_replay_report, json=wanted)

    async def usage(self, **filters: object) -> Json:
        """Return a page of the report of costs; `filters` are from, to and cursor."""
        return await self._call("GET", "v1/usage", checks.is_usage_report, params=_query(filters))

    def open_stream(self, path: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[httpx.Response]:
        """Open a response that does not end; silence for more than a minute raises httpx.ReadTimeout."""
        return self._http.stream("GET", path, headers=headers)

    async def endpoints(self, **filters: object) -> Json:
        """Return a page of endpoints; `filters` are client, limit and cursor."""
        return await self._page("v1/endpoints", checks.is_endpoint, filters)

    async def add_endpoint(self, endpoint: Json) -> Json:
        """Create an endpoint and return it with its secret."""
        return await self._call("POST", "v1/endpoints", checks.is_endpoint, json=endpoint)

    async def change_endpoint(self, endpoint_id: str, changes: Json) -> Json:
        """Change an endpoint and return it."""
        return await self._call("PATCH", f"v1/endpoints/{_path_segment(endpoint_id)}", checks.is_endpoint, json=changes)

    async def remove_endpoint(self, endpoint_id: str) -> None:
        """Delete an endpoint."""
        await self._call("DELETE", f"v1/endpoints/{_path_segment(endpoint_id)}", lambda body: not body)

    async def endpoint_action(self, endpoint_id: str, action: str, body: Json | None = None) -> Json:
        """Rotate, test or replay an endpoint; return the answer."""
        path = f"v1/endpoints/{_path_segment(endpoint_id)}/{action}"
        return await self._call("POST", path, checks.is_endpoint_result, **({} if body is None else {"json": body}))

    async def handler_action(self, name: str, action: str) -> Json:
        """Pause or resume a handler and return it."""
        return await self._call("POST", f"v1/handlers/{_path_segment(name)}/{action}", checks.is_handler)

    async def circuits(self, **filters: object) -> Json:
        """Return a page of circuits; `filters` are limit and cursor."""
        return await self._page("v1/circuits", checks.is_circuit, filters)

    async def close_circuit(self, key: str) -> Json:
        """Close a circuit and return it."""
        return await self._call("POST", f"v1/circuits/{_path_segment(key)}/close", checks.is_circuit)

    async def _page(self, path: str, is_row: Callable[[Json], bool], filters: Mapping[str, object]) -> Json:
        return await self._call("GET", path, partial(checks.is_page, is_row=is_row), params=_query(filters))

    async def login_link(self) -> Json:
        """Return a one-time link to the dashboard and its expiry."""
        return await self._call("POST", "v1/login-links", lambda body: isinstance(body.get("url"), str))

    async def _call(self, method: str, path: str, is_valid: Callable[[Json], bool], **options: Any) -> Json:
        try:
            async with self._http.stream(method, path, **options) as response:
                content = await read_body(response)
        except httpx.ConnectError as error:
            if reason := tls_reason(error):
                raise Unreachable(
                    f"no connection to {self.url}: {reason}; BOOMERANG_CA_FILE adds an authority"
                ) from None
            raise Unreachable(f"no service answers at {self.url}; start one with `boomerang serve`") from None
        except httpx.TimeoutException:
            raise Unreachable(f"{self.url} did not respond in time") from None
        except httpx.HTTPError as error:
            raise Unreachable(f"the connection to {self.url} failed: {transport_reason(error)}") from None
        return parse_response(response, content, is_valid)


async def all_rows(read_page: Callable[..., Awaitable[Json]], **filters: object) -> list[Json]:
    """Return the rows of all pages that `read_page` returns for the filters; a cursor that repeats ends them."""
    found: list[Json] = []
    cursor: object = None
    while True:
        page = await read_page(**filters, cursor=cursor)
        found += page["data"]
        if not page["data"] or not page.get("next_cursor") or page["next_cursor"] == cursor:
            return found
        cursor = page["next_cursor"]


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(f"{clean(url)} is not the address of a service; use the form {DEFAULT_URL}")
    return url.rstrip("/")


def _outgoing(url: str, variables: Mapping[str, str]) -> Outgoing:
    """Return the proxies and certificates for `url`; on loopback those of proxies do not matter, even wrong ones."""
    used = {name: text for name, text in variables.items() if name in VARIABLES}
    if names_loopback(urlsplit(url).hostname or ""):
        used = {name: text for name, text in used.items() if "proxy" not in name.lower()}
    try:
        return outgoing(used)
    except BadSetting as error:
        raise UsageError(str(error)) from None


def _path_segment(text: str) -> str:
    return quote(text, safe="")


def _query(filters: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in filters.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Access:
    """The address of the service and the key for it. `note` says why a key that was found is not used.

    `variables` are those of the source of the address and of the environment.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    note: str = ""
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)


def find_access(url: str | None, api_key: str | None, environ: Mapping[str, str], dotenv: Path) -> Access:
    """Return the address and the key from the options, else from one source: the environment, or the file `dotenv`.

    A key of the environment is never for an address of the file, which may be another person's, and vice versa.
    Keys of both sources are for the default address and for an address that is an option. Raises BadSetting for a
    file that cannot be read.
    """
    from service.runtime.config.dotenv import read_dotenv  # noqa: PLC0415 - import cost only for these commands

    sources = {"the environment": environ}
    if not ((url is not None or URL_NAME in environ) and (api_key is not None or KEY_NAME in environ)):
        sources[str(dotenv)] = read_dotenv(dotenv)
    source = None if url is not None else next((name for name, values in sources.items() if URL_NAME in values), None)
    address = (sources[source][URL_NAME].strip() or DEFAULT_URL) if source else DEFAULT_URL if url is None else url
    keys = {name: key for name, values in sources.items() if (key := values.get(KEY_NAME, "").strip())}
    variables = {**(sources[source] if source else {}), **environ}
    if api_key is not None:
        return Access(url=address, api_key=api_key or None, variables=variables)
    if source is None or source in keys or not keys:
        found = keys.get(source) if source else next(iter(keys.values()), None)
        return Access(url=address, api_key=found, variables=variables)
    (other,) = keys
    note = f"{KEY_NAME} of {other} is not sent to the {URL_NAME} of {source}; set both in one place, or give --api-key"
    return Access(url=address, note=note, variables=variables)


def with_client(command: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Add --url and --api-key to a command, and run it with a Client as its first argument."""

    @click.option("--url", help="Service address. Default: BOOMERANG_URL or http://127.0.0.1:8080.")
    @click.option("--api-key", help="API key. Default: BOOMERANG_API_KEY, from where BOOMERANG_URL is set.")
    @wraps(command)
    def run(*, url: str | None, api_key: str | None, **options: Any) -> None:
        access = find_access(url, api_key, os.environ, Path(".env"))
        if access.note:
            console().print(f"Note: {access.note}", soft_wrap=True)

        async def call() -> None:
            async with Client(access.url, access.api_key, variables=access.variables) as client:
                await command(client, **options)

        anyio.run(call)

    return run
