"""The settings of the Slack bot, what a `notify` entry for it may contain, and where it answers."""

import re
from typing import Any, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from service import HandlerSettings, NotifyOptions, Tools

CHANNEL = r"[CDGUW][A-Z0-9]{2,30}"
"""The id of a channel or a direct message, or of a user, who is written to directly."""

TIMESTAMP = r"[0-9]{1,16}\.[0-9]{1,9}"
"""The id of a message in its channel."""

MAX_COMMENT = 2000


class Settings(HandlerSettings):
    """The settings of the bot. Nobody may spend until a channel, a user or a workspace is named."""

    slack_token: SecretStr | None = Field(None, description="token of the bot, xoxb-…")
    slack_signing_secret: SecretStr | None = Field(None, description="secret that signs what Slack sends")
    slack_channels: frozenset[str] = Field(frozenset(), description="ids of channels in which everybody may spend")
    slack_users: frozenset[str] = Field(frozenset(), description="ids of users who may spend in every channel")
    slack_workspaces: frozenset[str] = Field(frozenset(), description="ids of workspaces in which everybody may spend")
    slack_user_daily: int = Field(10, ge=1, le=500, description="videos of one user a day (UTC)")
    slack_channel_daily: int = Field(50, ge=1, le=500, description="videos of one channel a day (UTC)")
    slack_model: str = Field("viduq2_pro_reference", description="model of new tasks")
    slack_text_model: str | None = Field(None, description="model of commands without a picture")
    slack_params: dict[str, Any] = Field({}, description="further parameters of new tasks, as JSON")
    slack_max_upload_mb: int = Field(1000, ge=1, le=1000, description="larger results become links")
    slack_webhook_url: SecretStr | None = Field(None, description="incoming webhook for the end of every task")
    slack_url: str = Field("https://slack.com/api", description="address of the Web API")
    archive_url: str | None = Field(None, description="set: videos are sent once they are stored")

    @field_validator("slack_token")
    @classmethod
    def _check_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and not re.fullmatch(r"xoxb-[A-Za-z0-9-]{4,300}", token.get_secret_value()):
            raise ValueError("must be the bot token of the app, which begins with xoxb-")
        return token

    @field_validator("slack_signing_secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and not re.fullmatch(r"[A-Za-z0-9]{16,128}", secret.get_secret_value()):
            raise ValueError("must be the signing secret of the app, 16 to 128 letters and digits")
        return secret

    @field_validator("slack_webhook_url")
    @classmethod
    def _check_webhook(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            _check_address(url.get_secret_value())
        return url

    @field_validator("slack_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        _check_address(url)
        return url.rstrip("/")

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if (self.slack_token is None) != (self.slack_signing_secret is None):
            raise ValueError("needs BOOMERANG_SLACK_TOKEN and BOOMERANG_SLACK_SIGNING_SECRET together, or neither")
        return self

    @property
    def signing_secret(self) -> str:
        """Return the signing secret, empty without one."""
        return self.slack_signing_secret.get_secret_value() if self.slack_signing_secret else ""

    @property
    def token(self) -> str:
        """Return the token, empty without one."""
        return self.slack_token.get_secret_value() if self.slack_token else ""

    def is_host_of_slack(self, url: str) -> bool:
        """Return whether the token may go to this address: one of Slack, or of the set address of its API."""
        try:
            parts, own = urlsplit(url), urlsplit(self.slack_url)
            port = parts.port
        except ValueError:
            return False
        if (parts.scheme, parts.netloc) == (own.scheme, own.netloc):
            return True
        host = (parts.hostname or "").lower()
        return parts.scheme == "https" and port in {None, 443} and host.endswith((".slack.com", ".slack-gov.com"))


def _check_address(url: str) -> None:
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
        raise ValueError("must be an http or https address without a query")


class Target(NotifyOptions):
    """Where events of a task go: a channel, or the address of an incoming webhook.

    In a channel: a thread of it, the progress message to edit, and the person for whom the video is.
    """

    url: SecretStr | None = None
    channel: str | None = Field(None, pattern=rf"^{CHANNEL}$")
    thread: str | None = Field(None, pattern=rf"^{TIMESTAMP}$")
    message: str | None = Field(None, pattern=rf"^{TIMESTAMP}$")
    user: str | None = Field(None, pattern=r"^[UW][A-Z0-9]{2,30}$")
    comment: str = Field("", max_length=MAX_COMMENT)

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if (self.url is None) == (self.channel is None):
            raise ValueError("needs a channel, or the url of an incoming webhook")
        if self.url is not None and (self.thread or self.message or self.user):
            raise ValueError("needs a channel for thread, message and user: a webhook has its own")
        return self


SlackTools: TypeAlias = Tools[Settings, Target | None]
