"""Prints the manifest of the Slack app, which Slack registers, and checks that the app works with these settings."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from service import Reject

from ._slack_api import import_slack, make_client, mapped
from ._slack_settings import Settings

WITHOUT_SETTINGS = True
"""`boomerang setup slack` runs without a token: only an app that its manifest has made has one."""

COMMAND_PATH = "/handlers/slack/command"
EVENTS_PATH = "/handlers/slack/events"
SCOPES = (
    *("app_mentions:read", "channels:history", "chat:write", "commands", "files:read", "files:write"),
    *("groups:history", "im:history"),
)
EVENTS = ("app_mention", "message.channels", "message.groups", "message.im")
"""A message with a file that mentions the bot may come as an event of its channel only."""

NEXT = (
    "create the app: api.slack.com/apps, Create New App, From a manifest; paste all of this as YAML",
    "install it to the workspace, then set",
)


def manifest(public_url: str) -> dict[str, Any]:
    """Return the manifest of an app that sends its requests to this service; raises Reject without an https address."""
    if not public_url.startswith("https://"):
        raise Reject("set BOOMERANG_PUBLIC_URL to the https address at which Slack reaches this service")
    base = public_url.rstrip("/")
    command = {
        "command": "/video",
        "url": base + COMMAND_PATH,
        "description": "Make a video of pictures",
        "usage_hint": "a cat jumps over the fence, and the link of a picture",
        "should_escape": False,
    }
    return {
        "display_information": {"name": "Video", "description": "Makes videos of pictures"},
        "features": {
            "app_home": {"messages_tab_enabled": True, "messages_tab_read_only_enabled": False},
            "bot_user": {"display_name": "video", "always_online": True},
            "slash_commands": [command],
        },
        "oauth_config": {"scopes": {"bot": list(SCOPES)}},
        "settings": {
            "event_subscriptions": {"request_url": base + EVENTS_PATH, "bot_events": list(EVENTS)},
            "org_deploy_enabled": False,
            "socket_mode_enabled": False,
            "token_rotation_enabled": False,
        },
    }


async def setup(
    config: Settings, http: httpx.AsyncClient, *, public_url: str, remove: bool, dry_run: bool
) -> AsyncIterator[str]:
    """Yield the manifest as JSON, then comments of YAML with what is missing. Raises Reject, Retry with what to fix."""
    if remove:
        raise Reject("remove the app at api.slack.com/apps: Slack gives a bot no method for it")
    yield json.dumps(manifest(public_url), indent=2)
    if missing := _missing(config):
        for line in (*NEXT, *(f"  {each}" for each in missing)):
            yield f"# {line}"
    elif not dry_run:
        yield f"# {await _who(config, http)}"
    yield f"# {_who_may_spend(config)}"


async def check(config: Settings, http: httpx.AsyncClient, *, public_url: str) -> str | None:
    """Return in one line what is wrong with the app, and its fix; None if Slack accepts its token.

    Slack shows the addresses of an app to nobody but its owner. Raises Retry, Reject if Slack cannot be called.
    """
    if not config.token:
        return None  # a webhook alone receives nothing
    manifest(public_url)
    await _who(config, http)
    return None


def _missing(config: Settings) -> list[str]:
    """Return a line for each setting that the app needs and that is not set."""
    lines = {
        "BOOMERANG_SLACK_TOKEN (OAuth & Permissions: Bot User OAuth Token)": config.token,
        "BOOMERANG_SLACK_SIGNING_SECRET (Basic Information: Signing Secret)": config.signing_secret,
    }
    return [line for line, value in lines.items() if not value]


async def _who(config: Settings, http: httpx.AsyncClient) -> str:
    """Return the name of the bot and of its workspace, as Slack knows them. Raises Retry."""
    await import_slack()
    from slack_sdk.errors import SlackClientError  # noqa: PLC0415 - heavy

    try:
        answer = await make_client(config, http).auth_test()
    except SlackClientError as error:
        raise mapped(error) from error
    return f"the token is that of the bot {answer.get('user')} in the workspace {answer.get('team_id')}"


def _who_may_spend(config: Settings) -> str:
    users, channels, workspaces = config.slack_users, config.slack_channels, config.slack_workspaces
    if users or channels or workspaces:
        return f"{len(users)} users, {len(channels)} channels and {len(workspaces)} workspaces may make videos"
    return (
        "nobody may make videos yet: write /video, it answers with your ids; then set BOOMERANG_SLACK_CHANNELS, "
        "BOOMERANG_SLACK_USERS or BOOMERANG_SLACK_WORKSPACES, and restart the service"
    )
