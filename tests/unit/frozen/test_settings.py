"""Settings: names and defaults."""

from dataclasses import asdict, is_dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.unit.frozen.internals import Settings, load_settings
from tests.unit.frozen.snapshots import assert_frozen, assert_words

EXAMPLE = Path(__file__).parents[3] / ".env.example"
COMMENTED = "#BOOMERANG_"


def examples() -> dict[str, str]:
    """Return every setting of `.env.example` with its default or example."""
    lines = [line.removeprefix("#") for line in EXAMPLE.read_text().splitlines() if line.startswith(COMMENTED)]
    return dict(line.split("=", 1) for line in lines)


def plain(value: object) -> object:
    """Return a setting's value as JSON: seconds for a duration, a number for an amount."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def value_of(settings: Settings, name: str) -> object:
    """Return the value of the setting `name`, without the prefix."""
    return plain(getattr(settings, name.lower()))


def test_names_and_examples() -> None:
    """`.env.example` lists every name with its default or an example."""
    assert_frozen("settings.json", examples())


def test_names_are_known() -> None:
    """Every name is accepted, and an unknown one is rejected."""
    load_settings(dict.fromkeys(examples(), ""), needed=["ARCHIVE_URL"])
    with pytest.raises(Exception, match="BOOMERANG_LEESE is not a setting"):
        load_settings({"BOOMERANG_LEESE": ""})


def test_defaults() -> None:
    """Each setting has its default."""
    given = [name.removeprefix("BOOMERANG_") for name in examples()]
    settings = load_settings({})
    names = [name for name in given if name not in {"URL", "API_KEY"}]
    assert_frozen("defaults.json", {name: value_of(settings, name) for name in [*names, "OFF_PEAK_DEADLINE"]})


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        ({"VTRIX_API_KEY": "k"}, "UPSTREAM_KEY", "k"),
        ({"VIDU_API_KEY": "k", "BOOMERANG_PROVIDER": "vidu"}, "UPSTREAM_KEY", "k"),
        ({"BOOMERANG_PROVIDER": "vidu"}, "UPSTREAM_URL", "https://api.vidu.com/ent/v2"),
        ({"DATABASE_URL": "sqlite:///a.db"}, "DATABASE_URL", "sqlite:///a.db"),
        ({"PORT": "1"}, "PORT", 1),
        ({"WEB_CONCURRENCY": "2"}, "WEB_CONCURRENCY", 2),
        ({"RENDER_EXTERNAL_URL": "https://a.example"}, "PUBLIC_URL", "https://a.example"),
        ({"RAILWAY_PUBLIC_DOMAIN": "a.example"}, "PUBLIC_URL", "https://a.example"),
        ({"FLY_APP_NAME": "a"}, "PUBLIC_URL", "https://a.fly.dev"),
        ({"HEROKU_APP_DEFAULT_DOMAIN_NAME": "a.example"}, "PUBLIC_URL", "https://a.example"),
        ({"KOYEB_PUBLIC_DOMAIN": "a.example"}, "PUBLIC_URL", "https://a.example"),
        ({"SPACE_HOST": "a.example"}, "PUBLIC_URL", "https://a.example"),
        (
            {"BOOMERANG_API_KEYS": "a=12345678:admin"},
            "API_KEYS",
            [{"name": "a", "key": "12345678", "admin": True, "read_only": False}],
        ),
    ],
)
def test_alternative_names(given: dict[str, str], name: str, value: object) -> None:
    """Names of providers and platforms are read, and API keys have their format."""
    assert value_of(load_settings(given), name) == value


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("PROVIDER", {"vtrix", "vidu"}),
        ("CONFIRM", {"always", "never"}),
        ("ON_IN_DOUBT", {"fail", "resubmit"}),
        ("SERVERLESS", {"off", "on"}),
        ("ARCHIVE_SIGNED_URLS", {"off", "on"}),
        ("LOG_FORMAT", {"console", "json"}),
        ("LOG_LEVEL", {"debug", "info", "warning", "error", "critical"}),
    ],
)
def test_words_of_settings(name: str, words: set[str]) -> None:
    """Each choice of a setting is accepted."""
    taken = {value_of(load_settings({f"BOOMERANG_{name}": word}), name) for word in words}
    assert_words(name, taken, words)
