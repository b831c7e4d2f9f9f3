"""What the settings must hold for a process that serves or works, beside being valid each by itself."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from service.deliveries.handler_loader import DIRECTORY_SETTING, handler_faults, survey
from service.domain.errors import BadSetting
from service.domain.hosts import is_loopback
from service.domain.submission_limits import HANDLER_CLIENT
from service.domain.webhook_secrets import derive_webhook_secret
from service.runtime.config.dotenv import PREFIX
from service.runtime.config.key_file import StoredKeys, load_or_create
from service.runtime.config.limit_checks import CLIENT_LIMITS, unknown_handler_clients
from service.runtime.config.setting_parsers import database_file
from service.runtime.config.settings import Settings
from service.runtime.config.variables import Check

KEYS_MISSING = f"{PREFIX}SECRET_KEYS must be set with PostgreSQL; `boomerang secret` makes a key"


def start_checks(*, host: str | None) -> list[Check]:
    """Return the checks of a process that talks to the provider; `host` is where it listens, None without a port."""
    checks = [
        Check(of=frozenset({"provider", "upstream_key"}), faults=_missing_upstream_key),
        Check(of=frozenset({"secret_keys", "database_url"}), faults=_missing_secret_keys),
        Check(of=frozenset({"handlers", "notify_handlers", "handlers_dir"}), faults=_handler_faults),
        Check(of=frozenset({"handlers_dir", *CLIENT_LIMITS}), faults=_handler_client_faults),
    ]
    if host is not None:
        checks.append(
            Check(of=frozenset({"api_keys", "public_url"}), faults=lambda settings: _missing_api_keys(settings, host))
        )
    return checks


def _missing_upstream_key(settings: Settings) -> list[str]:
    if settings.upstream_key is not None:
        return []
    key = f"{PREFIX}UPSTREAM_KEY (or {settings.provider.upper()}_API_KEY)"
    return [f"{key} must be the provider's key; to see everything work without one, run `boomerang demo`"]


def _missing_secret_keys(settings: Settings) -> list[str]:
    return [] if settings.secret_keys or database_file(settings.database_url) else [KEYS_MISSING]


def _missing_api_keys(settings: Settings, host: str) -> list[str]:
    """Return a line when others can reach `host` or the public address, and no client needs a key.

    Behind a proxy every request seems to come from this machine, whose callers are admins without a key.
    """
    if settings.api_keys:
        return []
    keys = "set it to name=KEY:admin, comma-separated"
    if not is_loopback(host):
        return [f"{PREFIX}API_KEYS must be set to serve on {host}: {keys}; without it only 127.0.0.1"]
    if settings.public_url and not is_loopback(urlsplit(settings.public_url).hostname or ""):
        public = f"{PREFIX}PUBLIC_URL (or the platform's own variable) is a public address"
        unset = "without it PUBLIC_URL must be unset or loopback"
        return [f"{PREFIX}API_KEYS must be set because {public}, where anybody would be an admin: {keys}; {unset}"]
    return []


def _handler_faults(settings: Settings) -> list[str]:
    return handler_faults(
        settings.handlers, settings.present, notify=settings.notify_handlers or (), schedules=settings.retry_schedules
    )


def _handler_client_faults(settings: Settings) -> list[str]:
    """Return a line for each limit of a client `handler:NAME` whose handler does not exist: it would limit nothing.

    It may be loaded by other processes alone: each process submits the tasks of all clients, within the same limits.
    """
    limits = settings.client_limits()
    if not any(client.startswith(HANDLER_CLIENT) for limit in limits.values() for client in limit.exceptions):
        return []
    found = survey(own=settings.present.get(DIRECTORY_SETTING)).handlers.values()
    return unknown_handler_clients(limits, [handler.stored_name for handler in found])


def handlers_directory(variables: Mapping[str, str]) -> str | None:
    """Return the value of HANDLERS_DIR before the other settings are read: handlers decide which names are settings."""
    return variables.get(f"{PREFIX}HANDLERS_DIR", "").strip() or None


def ensure_secret_keys(settings: Settings) -> Settings:
    """Return the settings with signing keys and webhook secrets: the given ones, else those beside the SQLite file.

    The file `FILE.key` is created once, with mode 0600. Webhook secrets that are not given are derived from the signing
    keys. Raises BadSetting when there is no signing key and the database is PostgreSQL, or the file cannot be used.
    """
    keys = StoredKeys(secret_keys=settings.secret_keys, webhook_secrets=())
    if not keys.secret_keys:
        file = database_file(settings.database_url)
        if file is None:
            raise BadSetting(KEYS_MISSING)
        keys = load_or_create(Path(f"{file}.key"))
    derived = keys.webhook_secrets or tuple(derive_webhook_secret(key) for key in keys.secret_keys)
    secrets = settings.webhook_secrets or derived
    present = {**settings.present, "WEBHOOK_SECRETS": ",".join(secrets)}
    return settings.model_copy(update={"secret_keys": keys.secret_keys, "webhook_secrets": secrets, "present": present})
