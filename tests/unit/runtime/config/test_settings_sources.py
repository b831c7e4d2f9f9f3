"""The sources of settings, and what the service requires before it starts."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from service.domain.errors import BadSetting
from service.runtime.config import required_settings
from service.runtime.config.settings import NAMES, Settings, load_settings

ROOT = Path(__file__).resolve().parents[4]


def load(**given: str) -> Settings:
    """Load settings whose names have no prefix."""
    return load_settings({f"BOOMERANG_{name}": value for name, value in given.items()})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"RENDER_EXTERNAL_URL": "https://b.onrender.com"}, "https://b.onrender.com"),
        ({"RAILWAY_PUBLIC_DOMAIN": "b.up.railway.app"}, "https://b.up.railway.app"),
        ({"FLY_APP_NAME": "b"}, "https://b.fly.dev"),
        ({"HEROKU_APP_DEFAULT_DOMAIN_NAME": "b-1.herokuapp.com"}, "https://b-1.herokuapp.com"),
        ({"KOYEB_PUBLIC_DOMAIN": "b.koyeb.app"}, "https://b.koyeb.app"),
        ({"SPACE_HOST": "me-b.hf.space"}, "https://me-b.hf.space"),
        ({"FLY_APP_NAME": "b", "BOOMERANG_PUBLIC_URL": "https://example.org"}, "https://example.org"),
        ({"FLY_APP_NAME": ""}, None),
    ],
)
def test_public_address_comes_from_the_platform(environ: dict[str, str], expected: str | None) -> None:
    """Without PUBLIC_URL the variable of the platform gives the public address."""
    assert load_settings(environ).public_url == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"VTRIX_API_KEY": "v"}, "v"),
        ({"VIDU_API_KEY": "v"}, None),
        ({"VIDU_API_KEY": "v", "BOOMERANG_PROVIDER": "vidu"}, "v"),
        ({"VTRIX_API_KEY": "v", "BOOMERANG_UPSTREAM_KEY": "own"}, "own"),
    ],
)
def test_provider_variable_sets_the_key(environ: dict[str, str], expected: str | None) -> None:
    """The variable of the selected provider sets the key; that of another provider does not."""
    assert load_settings(environ).upstream_key == expected


def test_each_provider_has_its_address() -> None:
    """The default address depends on the provider."""
    assert load(PROVIDER="vidu").upstream_url == "https://api.vidu.com/ent/v2"


def test_prefixed_names_take_precedence_over_plain_ones() -> None:
    """PORT, DATABASE_URL and WEB_CONCURRENCY are read; the prefixed names take precedence."""
    plain = {"PORT": "90", "DATABASE_URL": "postgres://h/d", "WEB_CONCURRENCY": "3"}
    settings = load_settings(plain)
    assert (settings.port, settings.database_url, settings.web_concurrency) == (90, "postgresql://h/d", 3)
    assert load_settings({**plain, "BOOMERANG_PORT": "91"}).port == 91


def test_invalid_platform_variable_is_reported_by_its_name() -> None:
    """The line names the variable that was set, not the setting."""
    for name in ("PORT", "RENDER_EXTERNAL_URL"):
        with pytest.raises(BadSetting, match=rf"\A{name} must "):
            load_settings({name: "nothing"})


def test_off_peak_deadline_is_at_least_the_task_deadline() -> None:
    """A deadline beyond 49 hours applies to off-peak tasks too."""
    settings = load(TASK_DEADLINE="5d")
    assert settings.off_peak_deadline == settings.task_deadline == timedelta(days=5)


def test_environment_takes_precedence_over_the_file(tmp_path: Path) -> None:
    """`.env` gives settings that the environment does not have."""
    file = tmp_path / ".env"
    file.write_text("BOOMERANG_LEASE=30s\nBOOMERANG_POLL_MAX='9s' # a comment\nBOOMERANG_UPSTREAM_KEY=a${HOME}b\n")
    settings = load_settings({"BOOMERANG_LEASE": "20s"}, dotenv=file)
    assert settings.lease == timedelta(seconds=20)
    assert settings.poll_max == timedelta(seconds=9)
    assert settings.upstream_key == "a${HOME}b"


def test_missing_file_is_accepted_and_unreadable_file_is_refused(tmp_path: Path) -> None:
    """A missing `.env` is common; one that is not UTF-8 is refused."""
    assert load_settings({}, dotenv=tmp_path / ".env").provider == "vtrix"
    (tmp_path / ".env").write_bytes(b"BOOMERANG_LEASE=\xff\xfe")
    with pytest.raises(BadSetting, match=r"\.env cannot be read"):
        load_settings({}, dotenv=tmp_path / ".env")


def test_default_log_format_depends_on_the_terminal() -> None:
    """The default is console on a terminal and json elsewhere; a given format takes precedence."""
    assert load_settings({}, terminal=True).log_format == "console"
    assert load_settings({}).log_format == "json"
    assert load_settings({"BOOMERANG_LOG_FORMAT": "json"}, terminal=True).log_format == "json"


def test_missing_upstream_key_is_refused_with_a_hint_at_the_demo() -> None:
    """The message says where to set the key and which command needs none."""
    (line,) = required_settings._missing_upstream_key(load(PROVIDER="vidu"))
    assert re.search("VIDU_API_KEY.*`boomerang demo`", line)
    assert required_settings._missing_upstream_key(load(UPSTREAM_KEY="key")) == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "", "example.org"])  # noqa: S104 - must be refused
def test_public_host_needs_api_keys(host: str) -> None:
    """Without keys only a loopback host is accepted."""
    (line,) = required_settings._missing_api_keys(load(), host)
    assert line.startswith(f"BOOMERANG_API_KEYS must be set to serve on {host}")
    assert required_settings._missing_api_keys(load(API_KEYS="alice=12345678"), host) == []


@pytest.mark.parametrize(
    "given",
    [
        {"BOOMERANG_PUBLIC_URL": "https://video.example.org"},
        {"BOOMERANG_PUBLIC_URL": "http://10.0.0.1:8080"},
        {"BOOMERANG_PUBLIC_URL": "https://localhost.example.org"},
        {"BOOMERANG_PUBLIC_URL": "http://0.0.0.0:8080"},
        {"RENDER_EXTERNAL_URL": "https://a.onrender.com"},
        {"FLY_APP_NAME": "a"},
    ],
)
def test_public_address_needs_api_keys(given: dict[str, str]) -> None:
    """Without keys a public address is refused, set or found: a proxy's requests seem to come from this machine."""
    (line,) = required_settings._missing_api_keys(load_settings(given), "127.0.0.1")
    assert re.search("BOOMERANG_API_KEYS must be set because .*name=KEY:admin", line)
    settings = load_settings({**given, "BOOMERANG_API_KEYS": "alice=12345678"})
    assert required_settings._missing_api_keys(settings, "127.0.0.1") == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_address_needs_no_api_keys(host: str) -> None:
    """A provider on the same machine is not reached by others."""
    assert required_settings._missing_api_keys(load(PUBLIC_URL=f"http://{host}:8080"), "127.0.0.1") == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_host_needs_no_api_keys(host: str) -> None:
    """Clients on the same machine need no key."""
    assert required_settings._missing_api_keys(load(), host) == []


def test_sample_file_has_every_setting_and_loads(tmp_path: Path) -> None:
    """`.env.example` names every setting, and uncommenting all of its lines gives settings that load.

    One needs another database than the sample has.
    """
    lines = (ROOT / ".env.example").read_text().splitlines()
    written = [line.removeprefix("#") for line in lines if line.startswith("#BOOMERANG_")]
    names = {line.partition("=")[0].removeprefix("BOOMERANG_") for line in written}
    assert names == {*NAMES, "URL", "API_KEY"}
    (tmp_path / ".env").write_text("\n".join(written))
    others = {"BOOMERANG_DATABASE_URL": "postgresql://h/d"}
    assert load_settings(others, dotenv=tmp_path / ".env").lease == timedelta(seconds=60)


def test_services_of_kubernetes_are_no_settings() -> None:
    """A service named `boomerang` or `boomerang-web` gives every container variables with our prefix."""
    links = {
        "BOOMERANG_SERVICE_HOST": "10.0.0.1",
        "BOOMERANG_SERVICE_PORT": "8080",
        "BOOMERANG_SERVICE_PORT_HTTP": "8080",
        "BOOMERANG_PORT": "tcp://10.0.0.1:8080",
        "BOOMERANG_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "BOOMERANG_PORT_8080_TCP_PROTO": "tcp",
        "BOOMERANG_PORT_8080_TCP_PORT": "8080",
        "BOOMERANG_PORT_8080_TCP_ADDR": "10.0.0.1",
        "BOOMERANG_WEB_SERVICE_HOST": "10.0.0.2",
        "BOOMERANG_WEB_PORT": "tcp://10.0.0.2:80",
        "BOOMERANG_WEB_PORT_80_TCP_ADDR": "10.0.0.2",
    }
    settings = load_settings(links)
    assert (settings.port, dict(settings.present)) == (8080, {})
    assert load_settings({**links, "PORT": "9090"}).port == 9090
    with pytest.raises(BadSetting, match="BOOMERANG_WEB_PORT is not a setting"):
        load_settings({"BOOMERANG_WEB_PORT": "80"})


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quotes_that_docker_keeps_are_removed(quote: str) -> None:
    """A key in quotes would otherwise be another key than in every other process."""
    key = "k" * 32
    quoted = {name: f"{quote}{text}{quote}" for name, text in {"SECRET_KEYS": key, "LEASE": "9s", "BUDGET": ""}.items()}
    settings = load(**quoted, HANDLER_TEXT=f"{quote}a{quote}b{quote}")
    assert (settings.secret_keys, settings.lease, settings.budget) == ((key,), timedelta(seconds=9), None)
    assert settings.present["HANDLER_TEXT"] == f"{quote}a{quote}b{quote}"
