"""The settings of the Discord bot, what a `notify` entry for it may contain, and where it answers."""

import re
from typing import Any, Self, TypeAlias

from pydantic import Field, SecretStr, field_validator, model_validator

from service import HandlerSettings, NotifyOptions, Tools

ID = r"[0-9]{1,20}"
WEBHOOK = re.compile(
    rf"https://(?:ptb\.|canary\.)?discord(?:app)?\.com/api/(?:v\d{{1,2}}/)?webhooks/{ID}/[\w-]{{1,200}}"
    rf"(?:\?thread_id={ID})?"
)
DEFAULT_LIMIT = 10 * 1024 * 1024
"""Bytes of a file where Discord does not name its limit."""

MAX_COMMENT = 1500


class Settings(HandlerSettings):
    """The settings of the bot. Nobody may spend until a server, a channel or a user is named."""

    discord_application_id: str | None = Field(None, description="id of the application")
    discord_public_key: str | None = Field(None, description="public key of the application, in hexadecimal")
    discord_token: SecretStr | None = Field(None, description="token of the bot, for videos that take over 15 minutes")
    discord_servers: frozenset[str] = Field(frozenset(), description="ids of servers in which everybody may spend")
    discord_channels: frozenset[str] = Field(frozenset(), description="ids of channels in which everybody may spend")
    discord_users: frozenset[str] = Field(frozenset(), description="ids of users who may spend everywhere")
    discord_user_daily: int = Field(10, ge=1, le=500, description="videos of one user a day (UTC)")
    discord_channel_daily: int = Field(50, ge=1, le=500, description="videos of one channel a day (UTC)")
    discord_model: str = Field("viduq2_pro_reference", description="model of new tasks")
    discord_text_model: str | None = Field(None, description="model of commands without a picture")
    discord_params: dict[str, Any] = Field({}, description="further parameters of new tasks, as JSON")
    discord_webhook_url: SecretStr | None = Field(None, description="webhook that shows every task")
    discord_url: str = Field("https://discord.com/api/v10", description="address of the API")
    archive_url: str | None = Field(None, description="set: videos are sent once they are stored")
    public_url: str | None = Field(None, description="named in the User-Agent, as Discord asks")

    @field_validator("discord_application_id")
    @classmethod
    def _check_id(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(ID, value):
            raise ValueError("must be the Application ID, a number of up to 20 digits")
        return value

    @field_validator("discord_public_key")
    @classmethod
    def _check_key(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", value):
            raise ValueError("must be the Public Key of the application, 64 hexadecimal digits")
        return value

    @field_validator("discord_token")
    @classmethod
    def _check_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9._-]{20,200}", value.get_secret_value()):
            raise ValueError("must be the token of the bot, without the word Bot before it")
        return value

    @field_validator("discord_webhook_url")
    @classmethod
    def _check_webhook(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(
            r"https?://[^\s/?#@]+/[^\s?#]+(\?[^\s#]*)?", value.get_secret_value()
        ):
            raise ValueError("must be the address of a webhook, as its settings in Discord show it")
        return value

    @field_validator("discord_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url):
            raise ValueError("must be an http or https address without a query")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        if (self.discord_application_id is None) != (self.discord_public_key is None):
            raise ValueError(
                "needs BOOMERANG_DISCORD_APPLICATION_ID and BOOMERANG_DISCORD_PUBLIC_KEY together, or neither"
            )
        return self

    @property
    def token(self) -> str:
        """Return the token of the bot, empty without one."""
        return self.discord_token.get_secret_value() if self.discord_token else ""


class Target(NotifyOptions):
    """Where events of a task go: a channel, or the address of a webhook.

    In a channel: the interaction whose answer shows the task, or a message of the bot; the person for whom the video
    is; and the bytes of a file that Discord takes there.
    """

    url: SecretStr | None = None
    channel: str | None = Field(None, pattern=rf"^{ID}$")
    interaction: str | None = Field(None, pattern=rf"^{ID}$")
    message: str | None = Field(None, pattern=rf"^{ID}$")
    user: str | None = Field(None, pattern=rf"^{ID}$")
    limit: int = Field(DEFAULT_LIMIT, ge=1)
    comment: str = Field("", max_length=MAX_COMMENT)

    @field_validator("url")
    @classmethod
    def _check_webhook(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not WEBHOOK.fullmatch(url.get_secret_value()):
            raise ValueError("must be a webhook of Discord, like https://discord.com/api/webhooks/1234/abc…")
        return url

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if (self.url is None) == (self.channel is None):
            raise ValueError("needs a channel, or the url of a webhook")
        if self.url is not None and (self.interaction or self.message or self.user):
            raise ValueError("needs a channel for interaction, message and user: a webhook has its own")
        return self


DiscordTools: TypeAlias = Tools[Settings, Target | None]
