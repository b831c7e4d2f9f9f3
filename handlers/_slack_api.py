"""Calls the Web API of Slack with slack-sdk, which is imported when it is first used, and maps its errors.

Errors become `Retry` for what a later attempt or the operator can remedy, `Reject` for the destination's fault.
"""

import asyncio
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import httpx

from service import Reject, Retry

from ._chat_progress import MessageGone
from ._chat_words import shorten
from ._slack_settings import Settings, SlackTools

if TYPE_CHECKING:
    from slack_sdk.errors import SlackClientError

    from ._slack_requests import OperatorClient

EXTRA_MISSING = "the library of Slack is not installed; run: pip install 'boomerang-service[slack]'"
MAX_TEXT = 4000
"""Characters of a message that Slack recommends at most; `chat.update` refuses longer ones."""

GONE = frozenset({"message_not_found", "cant_update_message", "cant_delete_message", "edit_window_closed"})
NO_CHANNEL = frozenset(
    {
        *("not_in_channel", "channel_not_found", "is_archived", "is_inactive", "user_not_found", "user_not_in_channel"),
        *("restricted_action", "restricted_action_read_only_channel", "restricted_action_thread_only_channel"),
        *("restricted_action_non_threadable_channel", "restricted_action_thread_locked", "cannot_dm_bot"),
        *("messages_tab_disabled", "ekm_access_denied", "team_access_not_granted", "posting_to_channel_denied"),
        *("cannot_reply_to_message", "channel_type_not_supported", "method_not_supported_for_channel_type"),
        *("invalid_channel", "user_disabled", "user_is_bot", "is_bot"),
    }
)
REFUSED = frozenset(
    {
        *("msg_too_long", "no_text", "msg_blocks_too_long", "too_many_attachments", "invalid_arguments"),
        *("invalid_thread_ts", "file_not_found", "file_deleted", "file_type_not_allowed"),
    }
)
NO_FILES = frozenset(
    {
        *("file_uploads_disabled", "file_uploads_except_images_disabled", "file_upload_size_restricted"),
        *("storage_limit_reached", "over_file_size_limit", "file_too_large", "malware_detected"),
    }
)
TOKEN = frozenset(
    {
        *("invalid_auth", "not_authed", "account_inactive", "token_revoked", "token_expired", "no_permission"),
        *("not_allowed_token_type", "access_denied", "org_login_required", "two_factor_setup_required"),
    }
)


MAX_PAUSE = 3600
DEFAULT_PAUSE = 5
"""Seconds for which Slack may ask at most, and what is waited if it names none."""


class NoChannel(Reject):
    """The bot may not write to a channel, or there is none."""


class NoUpload(Reject):
    """The workspace does not take the file; a link is possible."""


def slack_installed() -> bool:
    """Return whether slack-sdk and aiohttp are installed, without importing them."""
    return find_spec("slack_sdk") is not None and find_spec("aiohttp") is not None


async def import_slack() -> None:
    """Import slack-sdk in a thread: it takes about 0.2 s of CPU, which would block the event loop.

    Raises Retry if it is not installed.
    """
    if not slack_installed():
        raise Retry(EXTRA_MISSING)
    await asyncio.to_thread(import_module, "._slack_requests", __package__)


@dataclass(frozen=True, kw_only=True)
class SlackApi:
    """Calls methods of the Web API; each raises Retry, Reject. `client` is the library's object."""

    client: "OperatorClient"
    tools: SlackTools

    async def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Call a method by its name in the library; return the answer.

        While Slack limits the method, no process calls it. Raises Retry, NoChannel, NoUpload, MessageGone, Reject.
        """
        from slack_sdk.errors import SlackClientError  # noqa: PLC0415 - heavy

        from ._slack_requests import RateLimited  # noqa: PLC0415 - heavy

        until = float(await self.tools.state.get(f"limited/{method}", 0))
        if (left := until - self.tools.now().timestamp()) > 0:
            raise limited(left)
        try:
            response = await getattr(self.client, method)(**arguments)
        except RateLimited as error:
            until = self.tools.now().timestamp() + error.pause
            await self.tools.state.set(f"limited/{method}", until, expires_in=error.pause)
            raise limited(error.pause) from error
        except SlackClientError as error:
            raise mapped(error) from error
        return dict(response.data)

    async def post(self, channel: str, text: str, *, thread: str | None = None) -> tuple[str, str]:
        """Send a text that is markup already; return the ids of its channel and of the message."""
        answer = await self.call(
            "chat_postMessage",
            channel=channel,
            text=shorten(text, MAX_TEXT),
            thread_ts=thread,
            unfurl_links=False,
            unfurl_media=False,
        )
        return str(answer.get("channel") or channel), str(answer.get("ts") or "")

    async def whisper(self, channel: str, user: str, text: str, *, thread: str | None = None) -> None:
        """Send a text that only one member of a channel sees."""
        await self.call(
            "chat_postEphemeral", channel=channel, user=user, text=shorten(text, MAX_TEXT), thread_ts=thread
        )

    async def edit(self, channel: str, message: str, text: str) -> None:
        """Replace the text of a message of the bot. Raises MessageGone too."""
        await self.call("chat_update", channel=channel, ts=message, text=shorten(text, MAX_TEXT))

    async def delete(self, channel: str, message: str) -> None:
        """Delete a message of the bot. Raises MessageGone too."""
        await self.call("chat_delete", channel=channel, ts=message)

    async def file(self, file_id: str) -> dict[str, Any]:
        """Return what Slack knows of a file. Raises Reject for one that the bot may not see."""
        found = (await self.call("files_info", file=file_id)).get("file")
        return found if isinstance(found, dict) else {}


async def open_slack(tools: SlackTools) -> SlackApi:
    """Return the API for the token of the settings; raises Retry if its library or the token is missing."""
    if not tools.config.token:
        raise Retry("set BOOMERANG_SLACK_TOKEN and BOOMERANG_SLACK_SIGNING_SECRET to write to channels of Slack")
    await import_slack()
    return SlackApi(client=make_client(tools.config, tools.operator_http), tools=tools)


def make_client(config: Settings, http: httpx.AsyncClient) -> "OperatorClient":
    """Return the library's client, whose requests go through `http`. The library must have been imported."""
    from ._slack_requests import OperatorClient  # noqa: PLC0415 - heavy

    return OperatorClient(http, token=config.token, base_url=config.slack_url)


def escaped(text: str) -> str:
    """Return a text of people as markup that shows it as it is: it can mention nobody."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# ── errors ───────────────────────────────────────────────────────────────────


def pause_of(response: httpx.Response) -> int:
    """Return the seconds that Retry-After asks for."""
    text = response.headers.get("retry-after", "").strip()
    return max(1, min(int(text[:9]), MAX_PAUSE)) if text.isascii() and text.isdigit() else DEFAULT_PAUSE


def limited(seconds: float) -> Retry:
    """Return the error for a method that Slack limits."""
    return Retry("Slack asks for fewer requests", after=seconds)


def mapped(error: "SlackClientError") -> Exception:
    """Return the exception for an error of the Web API, which has no text of Slack but the word for the error."""
    from slack_sdk.errors import SlackApiError  # noqa: PLC0415 - heavy

    if not isinstance(error, SlackApiError):
        return Retry(f"Slack could not be reached or failed: {str(error)[:200]}")
    word = word_of(error)
    found: Exception = Retry(f"Slack answered an error: {word}")
    if word in GONE:
        found = MessageGone(f"the message cannot be changed: {word}")
    elif word in NO_CHANNEL:
        found = NoChannel(f"Slack does not let the bot write there: {word}; invite it to the channel")
    elif word in NO_FILES:
        found = NoUpload(f"the workspace does not take the file: {word}")
    elif word in REFUSED:
        found = Reject(f"Slack does not take this: {word}")
    elif word in TOKEN:
        found = Retry(f"Slack does not accept BOOMERANG_SLACK_TOKEN ({word}); set the bot token of the installed app")
    elif word == "missing_scope":
        found = Retry("the app lacks a scope; compare it with `boomerang setup slack`, and install it again")
    return found


def word_of(error: "SlackClientError") -> str:
    """Return Slack's word for an error."""
    data = getattr(getattr(error, "response", None), "data", None)
    return str(data.get("error") or "unknown_error")[:100] if isinstance(data, dict) else "unknown_error"
