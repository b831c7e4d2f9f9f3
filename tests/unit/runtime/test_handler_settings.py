"""What follows from the settings for handlers: secrets in logs and errors, guards, secrets of clients."""

import io
import json
import logging
from collections.abc import Iterator
from unittest.mock import AsyncMock, MagicMock

import pytest
import structlog
from pydantic import SecretStr

from service import Event, Handlers, HandlerSettings, Tools
from service.deliveries.error_text import SecretMask
from service.domain.webhook_secrets import derive_client_secret, derive_webhook_secret
from service.runtime import log_config
from service.runtime.config.required_settings import ensure_secret_keys
from service.runtime.config.settings import Settings, load_settings
from service.runtime.delivery_parts import build_delivery_parts
from service.runtime.handler_settings import client_secrets, egress_settings, mask_logs, secret_mask
from tests.security.environment import captured
from tests.support.delivery_builders import handler

KEYS = "new-signing-key-of-32-characters-1,old-signing-key-of-32-characters-2"
NEW, OLD = KEYS.split(",")


def _settings(*needed: str, **given: str) -> Settings:
    environ = {"SECRET_KEYS": KEYS, **given}
    return ensure_secret_keys(
        load_settings({f"BOOMERANG_{name}": text for name, text in environ.items()}, needed=needed)
    )


def test_every_setting_of_a_handler_is_masked() -> None:
    """Those that begin with HANDLER_, those that a handler needs, and addresses and secrets of webhooks."""
    settings = _settings(
        "BOT_TOKEN",
        BOT_TOKEN="token-of-the-bot",
        HANDLER_CRM="password-of-the-crm",
        WEBHOOK_URL="https://hooks.example/secret-path-1",
        RETENTION="30d",
        PROVIDER="vtrix",
    )
    shared = " ".join(map(derive_webhook_secret, (NEW, OLD)))
    text = secret_mask(settings)(f"token-of-the-bot password-of-the-crm /secret-path-1 {shared} 30d vtrix")
    assert text == "… … … … … 30d vtrix"


class BotSettings(HandlerSettings):
    """Settings of a handler, of which one is a secret."""

    bot_token: SecretStr
    bot_chat: str = "main"
    bot_url: str | None = None


def test_declared_settings_are_masked_when_they_are_secrets_or_addresses() -> None:
    """An error may name the queue or chat that a handler declares, and neither its secret nor an address."""
    handlers = Handlers()

    @handlers.on(name="bot", settings=BotSettings)
    async def bot(_event: Event, _tools: Tools) -> None: ...

    given = {"BOT_TOKEN": "token-of-the-bot", "BOT_CHAT": "chat-of-friends", "BOT_URL": "https://x.example/path-of-bot"}
    settings = _settings(*given, **given)
    text = "token-of-the-bot chat-of-friends /path-of-bot"
    assert secret_mask(settings, [*handlers])(text) == "… chat-of-friends …"
    assert secret_mask(settings)(text) == "… … …"


@pytest.mark.parametrize("user", ["name:p%40ss-word", "p%40ss-word"])
def test_password_of_an_address_is_masked_decoded(user: str) -> None:
    """The password of a broker, or its token in place of a user, as it is written in the address and as it is meant."""
    settings = _settings("BROKER_URL", BROKER_URL=f"nats://{user}@broker.example:4222")
    assert secret_mask(settings)("p%40ss-word p@ss-word broker.example") == "… … broker.example"


def test_archive_directory_is_no_secret() -> None:
    """Errors about files stay readable; the address of a store may have a key."""
    assert secret_mask(_settings(ARCHIVE_URL="file:///srv/videos"))("/srv/videos is full") == "/srv/videos is full"


@pytest.mark.parametrize(
    ("api_keys", "client", "expected"),
    [
        ("ann=key-of-ann-1,root=key-of-root:admin", "ann", "own"),
        ("ann=key-of-ann-1,root=key-of-root:admin", "root", "shared"),
        ("ann=key-of-ann-1,root=key-of-root:admin", "former", "own"),
        ("ann=key-of-ann-1,ann=key-of-ann-2:admin", "ann", "own"),
        ("", "local", "shared"),
    ],
)
def test_clients_have_their_own_secret_and_admins_the_shared_one(api_keys: str, client: str, expected: str) -> None:
    """A name with any key that is not an admin's is a client; without keys everything is the operator's."""
    settings = _settings(**({"API_KEYS": api_keys} if api_keys else {}))
    newest = {"own": derive_client_secret(NEW, client), "shared": derive_webhook_secret(NEW)}
    assert client_secrets(settings).for_client(client)[0] == newest[expected]


def test_given_webhook_secrets_stay_shared() -> None:
    """WEBHOOK_SECRETS signs for WEBHOOK_URL, and beside the own secrets of clients."""
    shared = derive_webhook_secret("given-secret")
    found = client_secrets(_settings(WEBHOOK_SECRETS=shared, API_KEYS="ann=key-of-ann-1")).for_client("ann")
    assert found == (derive_client_secret(NEW, "ann"), derive_client_secret(OLD, "ann"), shared)


def test_guards_follow_the_settings() -> None:
    """Each setting reaches its guard."""
    found = egress_settings(
        _settings(
            EGRESS_ALLOW="10.0.0.1",
            NOTIFY_ALLOW="10.0.0.2",
            EGRESS_DENY="203.0.113.0/24",
            WEBHOOK_URL="https://a.test/",
            ARCHIVE_URL="file:///srv",
        )
    )
    assert (found.allow, found.notify_allow, found.deny) == (("10.0.0.1",), ("10.0.0.2",), ("203.0.113.0/24",))
    assert found.own_addresses == {"WEBHOOK_URL": "https://a.test/", "ARCHIVE_URL": "file:///srv"}


# ── log lines ────────────────────────────────────────────────────────────────

SECRET = "token-of-the-bot"
ADDRESS = "https://api.example/send/other-path?sig=other-signature"


@pytest.fixture(params=["json", "console"])
def logged(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """Yield the log, in which the secret is masked."""
    with captured(request.param) as lines:
        mask_logs(SecretMask([SECRET]))
        yield lines
    log_config.MASK.text = log_config.MASK.exception = None


def _raise() -> None:
    raise RuntimeError(f"{SECRET} was refused by {ADDRESS}")


def test_secrets_are_masked_in_every_line(logged: io.StringIO) -> None:
    """In the fields of our lines, in the messages of handlers, and in the tracebacks of both."""
    own, handlers = structlog.get_logger("boomerang.test"), logging.getLogger("boomerang.handlers.test")
    own.info("sent", token=SECRET, address="https://public.example/callbacks")
    handlers.warning("sent %s", SECRET)
    for log in (own.exception, handlers.exception):
        try:
            _raise()
        except RuntimeError:
            log("failed")
    log_config.LineLogger.out.flush()
    text = logged.getvalue()
    assert text.count("RuntimeError") >= 2
    assert "https://public.example/callbacks" in text
    for hidden in (SECRET, "other-path", "other-signature"):
        assert hidden not in text


def test_lines_stay_readable(logged: io.StringIO) -> None:
    """A line without a secret is as it was."""
    structlog.get_logger("boomerang.test").info("sent", count=3, name="ann")
    log_config.LineLogger.out.flush()
    line = logged.getvalue()
    if line.startswith("{"):
        assert {"event": "sent", "count": 3, "name": "ann"}.items() <= json.loads(line).items()
    assert "sent" in line


@pytest.mark.parametrize(("notify", "allowed"), [(None, True), ("webhook,log", True), ("log", False)])
def test_endpoints_of_clients_follow_notify_handlers(notify: str | None, allowed: bool) -> None:
    """An endpoint is a webhook that a client names: NOTIFY_HANDLERS counts for it too."""
    settings = _settings(**({"NOTIFY_HANDLERS": notify} if notify else {}))
    names = ("webhook", "log")
    handlers = {name: handler(name, AsyncMock(), for_clients=name == "webhook") for name in names}
    parts = build_delivery_parts(
        settings=settings,
        store=MagicMock(),
        handlers=handlers,
        sealer=MagicMock(),
        tools=MagicMock(),
        clock=MagicMock(),
        new_id=str,
    )
    assert (parts.endpoints.enabled, parts.endpoints.for_clients) == (True, allowed)
