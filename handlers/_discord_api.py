"""Calls the API of Discord, obeys its limits, and maps its errors.

What a process finds out about limits and refusals is kept for all of them: Discord bans an address that collects ten
thousand answers of 401, 403 or 429 within ten minutes. So a refused token, a closed channel and a removed webhook are
remembered, and not called again.
"""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO, Any

import httpx

from service import Reject, Retry

from ._chat_words import shorten
from ._discord_errors import (
    TOKEN_REFUSED,
    UNKNOWN_MESSAGE,
    WEBHOOK_GONE,
    ApiError,
    Closed,
    TokenDead,
    bounded_json,
    digest,
    is_missing,
    mapped,
    pause_of,
)
from ._discord_settings import DiscordTools

MAX_TEXT = 2000
TIMEOUT = 15.0
SECONDS_PER_MB = 10.0
"""Further seconds for the answer to an upload."""

REFUSED_FOR = 3600.0
CLOSED_FOR = 600.0
"""Seconds for which a refused token, and a channel that the bot may not write to, are not called again."""

NO_PREVIEWS = 4
NO_MENTIONS: dict[str, Any] = {"parse": []}


@dataclass(frozen=True, kw_only=True)
class File:
    """A file for an upload, its size in bytes, its name and its media type."""

    handle: IO[bytes]
    size: int
    name: str
    media_type: str


def body_of(text: str, *, mention: str | None = None, file: File | None = None) -> Any:
    """Return the fields of a message: it can mention nobody but `mention`, and shows no previews of links."""
    allowed = {"parse": [], "users": [mention]} if mention else NO_MENTIONS
    body: dict[str, Any] = {"content": shorten(text, MAX_TEXT), "allowed_mentions": allowed}
    if file is None:
        body["flags"] = NO_PREVIEWS
    else:
        body["attachments"] = [{"id": 0, "filename": file.name}]
    return body


@dataclass(frozen=True, kw_only=True)
class DiscordApi:
    """Makes requests; each raises Retry, Reject. `http` is the client for the addresses that it is given."""

    http: httpx.AsyncClient
    tools: DiscordTools

    # ── an interaction, by its token ─────────────────────────────────────────

    async def answer(self, token: str, body: Any, *, first: bool = True, file: File | None = None) -> str:
        """Change the answer to an interaction, or with `first` False add another; return the id of the message.

        Raises TokenDead 15 minutes after the command, and now and then before.
        """
        base = f"{self.tools.config.discord_url}/webhooks/{self.tools.config.discord_application_id}/{token}"
        method, url = ("PATCH", f"{base}/messages/@original") if first else ("POST", base)
        try:
            return await self._message(method, url, body, route=f"{method} interaction {digest(token)}", file=file)
        except ApiError as error:
            if error.status == HTTPStatus.UNAUTHORIZED or (error.code != UNKNOWN_MESSAGE and is_missing(error)):
                raise TokenDead from error
            raise mapped(error) from error

    # ── a channel, by the token of the bot ───────────────────────────────────

    async def post(self, channel: str, body: Any, *, file: File | None = None) -> str:
        """Send a message to a channel; return its id. Raises Closed too."""
        return await self._as_bot("POST", channel, "messages", body, file)

    async def edit(self, channel: str, message: str, body: Any) -> None:
        """Change a message of the bot. Raises MessageGone, Closed too."""
        await self._as_bot("PATCH", channel, f"messages/{message}", body, None)

    async def delete(self, channel: str, message: str) -> None:
        """Delete a message of the bot. Raises MessageGone, Closed too."""
        await self._as_bot("DELETE", channel, f"messages/{message}", None, None)

    async def _as_bot(self, method: str, channel: str, path: str, body: Any, file: File | None) -> str:
        state = self.tools.state
        if await state.get(f"closed/{channel}"):
            raise Closed("Discord did not let the bot write to this channel minutes ago")
        url = f"{self.tools.config.discord_url}/channels/{channel}/{path}"
        try:
            route = f"{method} {channel} {path.partition('/')[0]}"
            return await self._message(method, url, body, route=route, file=file, headers=await self.bot_headers())
        except ApiError as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                raise await self.token_refused() from error
            found = mapped(error)
            if isinstance(found, Closed):
                await state.set(f"closed/{channel}", value=True, expires_in=CLOSED_FOR)
            raise found from error

    async def bot_headers(self) -> dict[str, str]:
        """Return the headers of the bot; raises Retry without a token, and for one that Discord has refused."""
        token = self.tools.config.token
        if not token:
            raise Reject("set BOOMERANG_DISCORD_TOKEN: without it nothing can be sent 15 minutes after a command")
        if await self.tools.state.get(f"refused-token/{digest(token)}"):
            raise Retry(TOKEN_REFUSED)
        return {"authorization": f"Bot {token}"}

    async def token_refused(self) -> Retry:
        """Remember that Discord does not accept the token; return the error."""
        key = f"refused-token/{digest(self.tools.config.token)}"
        await self.tools.state.set(key, value=True, expires_in=REFUSED_FOR)
        return Retry(TOKEN_REFUSED)

    # ── a webhook, by its address ────────────────────────────────────────────

    async def webhook(self, method: str, url: str, body: Any, *, message: str = "", file: File | None = None) -> str:
        """Send a message through a webhook, or change one of its messages; return its id. Raises MessageGone too.

        A webhook that does not exist any more is never called again.
        """
        gone = f"gone-webhook/{digest(url)}"
        if await self.tools.state.get(gone):
            raise Reject(WEBHOOK_GONE)
        base, _, query = url.partition("?")
        address = f"{base}/messages/{message}?{query}" if message else f"{base}?wait=true&{query}"
        try:
            return await self._message(
                method, address.rstrip("?&"), body, route=f"{method} webhook {digest(url)}", file=file
            )
        except ApiError as error:
            if error.code != UNKNOWN_MESSAGE and (is_missing(error) or error.status == HTTPStatus.UNAUTHORIZED):
                await self.tools.state.set(gone, value=True)
                raise Reject(WEBHOOK_GONE) from error
            raise mapped(error) from error

    # ── requests ─────────────────────────────────────────────────────────────

    async def _message(
        self,
        method: str,
        url: str,
        body: Any,
        *,
        route: str,
        file: File | None = None,
        headers: dict[str, str] | None = None,
    ) -> str:
        """Make a request that answers with a message; return its id, empty without one."""
        given: dict[str, Any] = {"json": body} if body is not None else {}
        if file is not None:
            parts = {"payload_json": (None, json.dumps(body), "application/json")}
            given = {"files": {**parts, "files[0]": (file.name, file.handle, file.media_type)}}
        found = await self.request(method, url, route=route, size=file.size if file else 0, headers=headers, **given)
        return str(found.get("id") or "") if isinstance(found, dict) else ""

    async def request(
        self, method: str, url: str, *, route: str, size: int = 0, headers: dict[str, str] | None = None, **given: Any
    ) -> Any:
        """Return the answer in JSON. Raises Retry, and ApiError for the caller to map.

        `route` names what Discord limits together, without any secret; `size` is that of an upload in bytes.
        """
        await self._wait_for(route)
        own = {
            "user-agent": f"DiscordBot ({self.tools.config.public_url or 'https://localhost'}, 1)",
            **(headers or {}),
        }
        timeout = httpx.Timeout(TIMEOUT, read=TIMEOUT + SECONDS_PER_MB * size / 1e6, write=2 * TIMEOUT)
        request = self.http.build_request(method, url, headers=own, timeout=timeout, **given)
        try:
            response = await self.http.send(request, stream=True, follow_redirects=False)
            data = await bounded_json(response)
        except httpx.HTTPError as error:
            raise Retry(f"Discord could not be reached: {type(error).__name__}") from error
        await self._keep_limits(route, response, data)
        if response.is_success:
            return data
        if not response.is_client_error or response.status_code == HTTPStatus.REQUEST_TIMEOUT:
            raise Retry(f"Discord answered {response.status_code}")
        found = data if isinstance(data, dict) else {}
        code = found.get("code")
        raise ApiError(
            response.status_code, code if isinstance(code, int) else 0, str(found.get("message") or "")[:200]
        )

    async def _wait_for(self, route: str) -> None:
        """Raise Retry while a limit holds: each refused request would count for the ban."""
        for name in ("all", route):
            until = float(await self.tools.state.get(f"limited/{name}", 0))
            if (left := until - self.tools.now().timestamp()) > 0:
                raise Retry("Discord asks for fewer requests", after=left)

    async def _keep_limits(self, route: str, response: httpx.Response, data: Any) -> None:
        """Remember until when a route, or the whole API, is limited. Raises Retry for a refused request."""
        refused = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
        if not refused and response.headers.get("x-ratelimit-remaining") != "0":
            return
        pause = pause_of(response, data, refused=refused)
        everywhere = refused and isinstance(data, dict) and data.get("global") is True
        # a ban of the address is an answer without JSON: nothing may be called
        name = "all" if everywhere or (refused and not isinstance(data, dict)) else route
        if pause > 0:
            await self.tools.state.set(
                f"limited/{name}", self.tools.now().timestamp() + pause, expires_in=max(pause, 1.0)
            )
        if refused:
            raise Retry("Discord asks for fewer requests", after=pause)
