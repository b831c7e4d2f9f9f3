"""The settings of the Telegram bot, what a `notify` entry for it may contain, and where it answers."""

import hmac
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import Field, SecretStr, field_validator

from service import HandlerSettings, NotifyOptions, Tools

TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{1,200}")
SECRET = re.compile(r"[A-Za-z0-9_-]{16,256}")

MAX_CAPTION = 1024
"""Characters of a caption, counted as UTF-16 code units."""


class Settings(HandlerSettings):
    """The settings of the bot. Nobody may spend until a chat or a user is named."""

    telegram_token: SecretStr = Field(description="token of the bot, from @BotFather")
    telegram_chats: frozenset[int] = Field(frozenset(), description="ids of chats in which everybody may spend")
    telegram_users: frozenset[int] = Field(frozenset(), description="ids of users who may spend in every chat")
    telegram_user_daily: int = Field(10, ge=1, le=500, description="videos of one user a day (UTC)")
    telegram_chat_daily: int = Field(50, ge=1, le=500, description="videos of one chat a day (UTC)")
    telegram_model: str = Field("viduq2_pro_reference", description="model of new tasks")
    telegram_text_model: str | None = Field(None, description="model of commands without a photo")
    telegram_params: dict[str, Any] = Field({}, description="further parameters of new tasks, as JSON")
    telegram_secret: SecretStr | None = Field(None, description="secret of the webhook; made from the token by default")
    telegram_url: str = Field("https://api.telegram.org", description="address of the Bot API")
    archive_url: str | None = Field(None, description="set: videos are sent once they are stored")

    @field_validator("telegram_token")
    @classmethod
    def _check_token(cls, token: SecretStr) -> SecretStr:
        if not TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError("must be a token of @BotFather, like 123456789:AbC-dEf")
        return token

    @field_validator("telegram_secret")
    @classmethod
    def _check_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and not SECRET.fullmatch(secret.get_secret_value()):
            raise ValueError("must be 16 to 256 of the characters A-Z a-z 0-9 _ -")
        return secret

    @field_validator("telegram_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
            raise ValueError("must be an http or https address without a query")
        return url.rstrip("/")

    @property
    def webhook_secret(self) -> str:
        """Return what Telegram sends with each update: the set secret, else one that only the token's holders know."""
        if self.telegram_secret is not None:
            return self.telegram_secret.get_secret_value()
        key = self.telegram_token.get_secret_value().encode()
        return hmac.digest(key, b"boomerang: secret of the telegram webhook", "sha256").hex()


class Target(NotifyOptions):
    """Where events of a task go: a chat, a topic of it, the message to answer, and the progress message to edit."""

    chat_id: int
    thread_id: int | None = Field(None, ge=1)
    reply_to: int | None = Field(None, ge=1)
    message: int | None = Field(None, ge=1)
    caption: str = Field("", max_length=MAX_CAPTION)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an answer goes: a chat, a topic of it, and the message that it answers."""

    chat_id: int
    thread_id: int | None = None
    reply_to: int | None = None


TelegramTools: TypeAlias = Tools[Settings, Target | None]
