"""Settings of proxies and certificates: where they count, what stops the start, and what never shows."""

from pathlib import Path

import pytest
import structlog.testing

from service.domain.errors import BadSetting
from service.runtime.bootstrap import build_application
from service.runtime.config.settings import load_settings
from service.runtime.handler_settings import secret_mask
from service.runtime.outgoing_clients import open_outgoing_clients
from service.runtime.startup_checks import log_warnings
from tests.support.database_copies import database

PROXY = "http://boom:p%40ss-word@proxy.test:3128"
BASE = {"BOOMERANG_UPSTREAM_KEY": "upstream-key", "BOOMERANG_SECRET_KEYS": "k" * 32}


def test_variables_of_the_environment_and_the_file_are_kept(tmp_path: Path) -> None:
    """Those of the environment take precedence over those of `.env`; nothing else of the environment is kept."""
    (tmp_path / ".env").write_text("HTTPS_PROXY=http://file.test:1\nNO_PROXY=a.test\nOTHER=1\n")
    environ = {"HTTPS_PROXY": PROXY, "SSL_CERT_FILE": "/ca.pem", "BOOMERANG_LEASE": "30s", "all_proxy": ""}
    found = load_settings(environ, dotenv=tmp_path / ".env").outgoing
    assert found == {"HTTPS_PROXY": PROXY, "NO_PROXY": "a.test", "SSL_CERT_FILE": "/ca.pem"}


@pytest.mark.parametrize("name", ["BOOMERANG_HTTP_PROXY", "HTTPS_PROXY", "all_proxy"])
def test_unusable_proxy_is_reported_with_the_others(name: str) -> None:
    """A proxy that cannot be used is reported with every other wrong setting, without its value."""
    with pytest.raises(BadSetting) as refused:
        load_settings({name: "socks5://boom:p%40ss@proxy.test", "BOOMERANG_LEASE": "soon"})
    lines = str(refused.value).splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted([name, "BOOMERANG_LEASE"])
    assert "SOCKS" in str(refused.value)
    assert "p%40ss" not in str(refused.value)


def test_password_of_a_proxy_shows_nowhere() -> None:
    """Handlers do not see the proxy; logs and errors have neither its password nor what is sent for it."""
    for name in ("BOOMERANG_HTTP_PROXY", "HTTPS_PROXY"):
        settings = load_settings({**BASE, name: PROXY})
        assert "HTTP_PROXY" not in settings.present
        assert "p%40ss" not in repr(settings)
        text = secret_mask(settings)(f"{PROXY} p@ss-word Ym9vbTpwQHNzLXdvcmQ= proxy.test")
        assert "ss-word" not in text
        assert "Ym9v" not in text
        assert text.endswith("proxy.test")
        with structlog.testing.capture_logs() as lines:
            log_warnings(settings)
        proxies = [line for line in lines if line["event"] == "outgoing requests use a proxy"]
        assert {line["proxy"] for line in proxies} == {"proxy.test:3128"}
        assert "ss-word" not in str(lines)


@pytest.mark.parametrize("name", ["BOOMERANG_CA_FILE", "SSL_CERT_FILE"])
async def test_missing_authority_stops_the_start(tmp_path: Path, name: str) -> None:
    """The application is not built, and one line names the variable."""
    variables = {**BASE, "BOOMERANG_DATABASE_URL": await database(tmp_path), name: str(tmp_path / "missing.pem")}
    with pytest.raises(BadSetting, match=f"^{name} must name a readable PEM file .*: No such file or directory$"):
        async with build_application(load_settings(variables)):
            raise AssertionError


async def test_every_client_has_the_same_proxies() -> None:
    """The provider and all handlers follow one set of rules."""
    settings = load_settings({**BASE, "HTTPS_PROXY": PROXY, "BOOMERANG_WEBHOOK_URL": "https://hooks.test/"})
    async with open_outgoing_clients(settings) as clients:
        assert clients.warnings() == ()
        handlers = [clients.egress.notify, clients.egress.handlers, *clients.egress.own_addresses.values()]
        assert len({id(each._transport._outgoing) for each in handlers}) == 1  # type: ignore[attr-defined] # a guarded one
