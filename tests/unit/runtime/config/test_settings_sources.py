"""Settings: where they come from, and what must be there before the service starts."""

from datetime import timedelta
from pathlib import Path

import pytest

from service.domain.errors import BadSetting
from service.runtime.config.settings import (
    NAMES,
    Settings,
    load_settings,
    require_keys_for_host,
    require_upstream_key,
)

ROOT = Path(__file__).resolve().parents[4]


def load(**given: str) -> Settings:
    """Load settings given without their prefix."""
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
def test_the_public_address_is_found_from_the_platform(environ: dict[str, str], expected: str | None) -> None:
    """Without PUBLIC_URL the platform's own variable says where we can be reached."""
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
def test_the_providers_own_variable_serves_as_the_key(environ: dict[str, str], expected: str | None) -> None:
    """The key may come under the provider's name, and only under that provider's."""
    assert load_settings(environ).upstream_key == expected


def test_each_provider_has_its_own_address() -> None:
    """The address follows the provider."""
    assert load(PROVIDER="vidu").upstream_url == "https://api.vidu.com/ent/v2"


def test_plain_platform_names_serve_and_ours_overrule_them() -> None:
    """PORT, DATABASE_URL and WEB_CONCURRENCY are understood; the prefixed names win."""
    plain = {"PORT": "90", "DATABASE_URL": "postgres://h/d", "WEB_CONCURRENCY": "3"}
    settings = load_settings(plain)
    assert (settings.port, settings.database_url, settings.web_concurrency) == (90, "postgresql://h/d", 3)
    assert load_settings({**plain, "BOOMERANG_PORT": "91"}).port == 91


def test_a_wrong_platform_value_is_told_under_its_own_name() -> None:
    """The line names what was written, not what it would have become."""
    for name in ("PORT", "RENDER_EXTERNAL_URL"):
        with pytest.raises(BadSetting, match=rf"\A{name} must "):
            load_settings({name: "nothing"})


def test_an_off_peak_task_never_has_less_time_than_others() -> None:
    """A deadline beyond 49 hours holds for off-peak tasks too."""
    settings = load(TASK_DEADLINE="5d")
    assert settings.off_peak_deadline == settings.task_deadline == timedelta(days=5)


def test_the_environment_overrules_the_file(tmp_path: Path) -> None:
    """`.env` gives what the environment does not."""
    file = tmp_path / ".env"
    file.write_text("BOOMERANG_LEASE=30s\nBOOMERANG_POLL_MAX='9s' # a comment\nBOOMERANG_UPSTREAM_KEY=a${HOME}b\n")
    settings = load_settings({"BOOMERANG_LEASE": "20s"}, dotenv=file)
    assert settings.lease == timedelta(seconds=20)
    assert settings.poll_max == timedelta(seconds=9)
    assert settings.upstream_key == "a${HOME}b"


def test_a_missing_file_is_no_fault_and_an_unreadable_one_is(tmp_path: Path) -> None:
    """No `.env` is common; one that is no text is told."""
    assert load_settings({}, dotenv=tmp_path / ".env").provider == "vtrix"
    (tmp_path / ".env").write_bytes(b"BOOMERANG_LEASE=\xff\xfe")
    with pytest.raises(BadSetting, match=r"\.env cannot be read"):
        load_settings({}, dotenv=tmp_path / ".env")


def test_logs_are_for_people_on_a_terminal_only() -> None:
    """The format follows where the logs go, unless it is given."""
    assert load_settings({}, terminal=True).log_format == "console"
    assert load_settings({}).log_format == "json"
    assert load_settings({"BOOMERANG_LOG_FORMAT": "json"}, terminal=True).log_format == "json"


def test_without_an_upstream_key_the_start_is_refused_and_the_demo_named() -> None:
    """Who has no key is told where to set it, and how to see everything without one."""
    with pytest.raises(BadSetting, match=r"VIDU_API_KEY.*`boomerang demo`"):
        require_upstream_key(load(PROVIDER="vidu"))
    require_upstream_key(load(UPSTREAM_KEY="key"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "", "example.org"])  # noqa: S104 - refused is the point
def test_a_public_host_needs_api_keys(host: str) -> None:
    """Nothing but loopback is served without keys."""
    with pytest.raises(BadSetting, match="BOOMERANG_API_KEYS"):
        require_keys_for_host(load(), host)
    require_keys_for_host(load(API_KEYS="alice=12345678"), host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_a_loopback_host_needs_no_api_keys(host: str) -> None:
    """On the same machine no key is needed."""
    require_keys_for_host(load(), host)


def test_the_sample_file_shows_every_setting_and_loads(tmp_path: Path) -> None:
    """`.env.example` names every setting, and uncommenting all of its lines gives settings that load."""
    lines = (ROOT / ".env.example").read_text().splitlines()
    written = [line.removeprefix("#") for line in lines if line.startswith("#BOOMERANG_")]
    names = {line.partition("=")[0].removeprefix("BOOMERANG_") for line in written}
    assert names == {*NAMES, "URL", "API_KEY"}
    (tmp_path / ".env").write_text("\n".join(written))
    assert load_settings({}, dotenv=tmp_path / ".env").lease == timedelta(seconds=60)
