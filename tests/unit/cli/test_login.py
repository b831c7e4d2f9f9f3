"""The command `login` against a fake service over real HTTP."""

import json
from collections.abc import Iterator

import pytest

from tests.unit.cli.fake_service import FakeService, fake_service, problem, run

LINK = {"url": "https://video.example/sign-in/local~h2Vx9~1778069982.Zm9v", "expires_at": "2026-05-06T12:19:42.000Z"}


@pytest.fixture
def service() -> Iterator[FakeService]:
    """Run a fake service."""
    with fake_service() as fake:
        yield fake


def test_link_is_alone_on_standard_output(service: FakeService) -> None:
    """The link can be piped; what it is stands on standard error."""
    service.respond_to("POST /v1/login-links", (201, LINK))
    result = run("login", url=service.url)
    assert (result.exit_code, result.stdout) == (0, LINK["url"] + "\n")
    assert "once" in result.stderr


def test_link_as_json(service: FakeService) -> None:
    """With --json the expiry is there too."""
    service.respond_to("POST /v1/login-links", (201, LINK))
    assert json.loads(run("login", "--json", url=service.url).stdout) == LINK


def test_service_without_dashboard(service: FakeService) -> None:
    """The reason of the service is the message."""
    service.respond_to("POST /v1/login-links", (404, problem("there is no dashboard: BOOMERANG_DASHBOARD is off")))
    result = run("login", url=service.url)
    assert result.exit_code == 1
    assert "BOOMERANG_DASHBOARD" in result.stderr
