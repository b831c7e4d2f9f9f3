"""The settings of a simulated run."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from service.domain.api_key import ApiKey
from service.runtime.config.settings import Settings, load_settings
from tests.simulation.key_changes import OLD
from tests.simulation.scenario import Scenario

KEY = "upstream-key"
CLIENT = "client"
CREDIT_PRICE = Decimal("0.005")
"""US dollars of a credit: the sandbox bills two credits for a cent."""

WEBHOOK_SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def settings_of(scenario: Scenario, database_url: str) -> Settings:
    """Return the settings of a run."""
    environ = {
        "BOOMERANG_PROVIDER": scenario.provider,
        "BOOMERANG_UPSTREAM_KEY": KEY,
        "BOOMERANG_UPSTREAM_URL": "http://upstream.test/ent/v2"
        if scenario.provider == "vidu"
        else "http://upstream.test",
        "BOOMERANG_SECRET_KEYS": OLD,
        "BOOMERANG_WEBHOOK_SECRETS": WEBHOOK_SECRET,
        "BOOMERANG_RETRY_SCHEDULE": ",".join(scenario.schedule),
        "BOOMERANG_PUBLIC_URL": "http://service.test",
    }
    settings = load_settings(environ)
    given: Mapping[str, Any] = {
        **scenario.settings,
        "database_url": database_url,
        "credit_price": CREDIT_PRICE,
        "api_keys": (ApiKey(name=CLIENT, key="client-key", admin=True),),
    }
    present = {**settings.present, "WEBHOOK_SECRETS": WEBHOOK_SECRET}
    return settings.model_copy(update={**given, "present": present})
