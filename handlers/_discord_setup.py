"""Registers the commands of the Discord bot with one request, and checks that Discord sends them to this service."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

import httpx

from service import Reject, Retry

from ._discord_incoming import ACTIONS
from ._discord_settings import Settings

WITHOUT_SETTINGS = True
"""This module says itself which settings are missing."""

PATH = "/handlers/discord/interactions"
TIMEOUT = 15.0
STRING, ATTACHMENT = 3, 11
MAX_PICTURES = 7
MAX_PROMPT = 5000
NEEDED = {
    "BOOMERANG_DISCORD_APPLICATION_ID": "General Information: Application ID",
    "BOOMERANG_DISCORD_PUBLIC_KEY": "General Information: Public Key",
    "BOOMERANG_DISCORD_TOKEN": "Bot: Reset Token",
}


def commands() -> list[dict[str, Any]]:
    """Return the commands of the bot."""
    prompt = {"type": STRING, "name": "prompt", "description": "what the video shows", "required": True}
    pictures = [
        {"type": ATTACHMENT, "name": f"picture{number}", "description": f"picture {number}: JPEG, PNG or WebP"}
        for number in range(1, MAX_PICTURES + 1)
    ]
    video, status, cancel = ACTIONS
    return [
        {
            "type": 1,
            "name": video,
            "description": "Make a video of pictures",
            "options": [{**prompt, "max_length": MAX_PROMPT}, *pictures],
        },
        {"type": 1, "name": status, "description": "Show your newest videos"},
        {"type": 1, "name": cancel, "description": "Cancel your newest unfinished video"},
    ]


def address_of(public_url: str) -> str:
    """Return the address of the interactions; raises Reject if Discord cannot send to it."""
    if not public_url.startswith("https://"):
        raise Reject("set BOOMERANG_PUBLIC_URL to the https address at which Discord reaches this service")
    return public_url.rstrip("/") + PATH


async def setup(
    config: Settings, http: httpx.AsyncClient, *, public_url: str, remove: bool, dry_run: bool
) -> AsyncIterator[str]:
    """Register the commands, or remove them, and yield a line for each step. Raises Reject, Retry with what to fix."""
    given = (config.discord_application_id, config.discord_public_key, config.token)
    if missing := [name for name, value in zip(NEEDED, given, strict=True) if not value]:
        found = "; ".join(f"{name} ({NEEDED[name]})" for name in missing)
        raise Reject(f"set {found}: discord.com/developers/applications shows them")
    address = "" if remove else address_of(public_url)
    names = ", ".join(f"/{name}" for name in ACTIONS)
    if not dry_run:
        path = f"/applications/{config.discord_application_id}/commands"
        await _call(config, http, "PUT", path, json=[] if remove else commands())
    yield f"{'would ' if dry_run else ''}{'remove' if remove else 'register'} the commands {names}"
    if remove:
        return
    yield f"enter as Interactions Endpoint URL (General Information), while the service runs: {address}"
    yield f"invite the bot: {_invitation(config)}"
    yield _who_may_spend(config)


async def check(config: Settings, http: httpx.AsyncClient, *, public_url: str) -> str | None:
    """Return in one line what is wrong with where Discord sends commands, and its fix; None if all is well.

    Raises Retry, Reject if Discord cannot be called.
    """
    if not config.discord_public_key:
        return None  # a webhook alone receives nothing
    if not config.token:
        return "set BOOMERANG_DISCORD_TOKEN: without it videos that take over 15 minutes cannot be sent"
    address = address_of(public_url)
    found = await _call(config, http, "GET", "/applications/@me")
    known = await _call(config, http, "GET", f"/applications/{config.discord_application_id}/commands")
    sent_to = found.get("interactions_endpoint_url") if isinstance(found, dict) else None
    if sent_to != address:
        return f"Discord sends commands to {sent_to or 'no address'}; enter {address} as Interactions Endpoint URL"
    registered = {each.get("name") for each in known if isinstance(each, dict)} if isinstance(known, list) else set()
    return None if set(ACTIONS) <= registered else "commands are missing; run `boomerang setup discord`"


async def _call(config: Settings, http: httpx.AsyncClient, method: str, path: str, **given: Any) -> Any:
    """Return the answer to a request of the bot. Raises Retry, Reject."""
    agent = f"DiscordBot ({config.public_url or 'https://localhost'}, 1)"
    headers = {"authorization": f"Bot {config.token}", "user-agent": agent}
    try:
        answer = await http.request(method, config.discord_url + path, headers=headers, timeout=TIMEOUT, **given)
    except httpx.HTTPError as error:
        raise Retry(f"Discord could not be reached: {type(error).__name__}") from error
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        raise Reject("Discord does not accept BOOMERANG_DISCORD_TOKEN; set the token that the page Bot shows")
    if answer.status_code in {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND}:
        raise Reject("the token belongs to another application than BOOMERANG_DISCORD_APPLICATION_ID")
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not answer.is_success or found is None:
        raise Retry(f"Discord answered {answer.status_code}; try again in a minute")
    return found


def _invitation(config: Settings) -> str:
    """Return the address that adds the bot to a server, with the permissions that it uses."""
    permissions = 0x400 | 0x800 | 0x8000 | 0x40_0000_0000  # view, send, attach files, send in threads
    query = f"client_id={config.discord_application_id}&scope=bot+applications.commands&permissions={permissions}"
    return f"https://discord.com/oauth2/authorize?{query}"


def _who_may_spend(config: Settings) -> str:
    servers, channels, users = config.discord_servers, config.discord_channels, config.discord_users
    if servers or channels or users:
        return f"{len(users)} users, {len(channels)} channels and {len(servers)} servers may make videos"
    return (
        "nobody may make videos yet: write /video, it answers with your ids; then set BOOMERANG_DISCORD_SERVERS, "
        "BOOMERANG_DISCORD_CHANNELS or BOOMERANG_DISCORD_USERS, and restart the service"
    )
