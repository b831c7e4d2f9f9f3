"""What follows from the settings for handlers: their egress guards, their secrets, and the secrets of clients."""

from service.deliveries.egress_clients import EgressSettings
from service.deliveries.error_text import SecretMask, mask_credentials
from service.domain.webhook_secrets import ClientSecrets
from service.network.proxies import proxy_secrets
from service.runtime import log_config
from service.runtime.config.settings import NAMES, Settings

LOCAL_CLIENT = "local"
"""The client of all tasks where no API keys are set."""

SECRET_NAMES = frozenset({"WEBHOOK_URL", "WEBHOOK_SECRETS"})
"""Settings of the service that may hold secrets of handlers; all other settings of handlers may hold some."""


def egress_settings(settings: Settings) -> EgressSettings:
    """Return which addresses handlers may connect to."""
    addresses = {"WEBHOOK_URL": settings.webhook_url, "ARCHIVE_URL": settings.archive_url}
    return EgressSettings(
        allow=settings.egress_allow,
        notify_allow=settings.notify_allow,
        deny=settings.egress_deny,
        own_addresses={name: url for name, url in addresses.items() if url},
    )


def client_secrets(settings: Settings) -> ClientSecrets:
    """Return the secrets that sign the webhooks of clients; those of admins are signed with WEBHOOK_SECRETS."""
    clients = {key.name for key in settings.api_keys if not key.admin}
    admins = {key.name for key in settings.api_keys if key.admin} if settings.api_keys else {LOCAL_CLIENT}
    return ClientSecrets(
        keys=settings.secret_keys, shared=settings.webhook_secrets, with_shared=frozenset(admins - clients)
    )


def secret_mask(settings: Settings) -> SecretMask:
    """Return the mask of every value of the handlers' settings, and of the passwords of proxies."""
    values = {text for name, text in settings.present.items() if name not in NAMES or name in SECRET_NAMES}
    keys = {text for text in (settings.archive_access_key, settings.archive_secret_key) if text}
    return SecretMask(values | keys | proxy_secrets(settings.outgoing))


def mask_logs(mask: SecretMask) -> None:
    """Mask what `mask` masks in every log line from now on, and in tracebacks also addresses."""
    log_config.MASK.text = mask
    log_config.MASK.exception = lambda text: mask_credentials(mask(text))
