"""Requests to the provider go where the settings say: not by a proxy of the environment, and not after a redirect."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from service.api.server import listen, serving
from service.domain.errors import ProviderUnavailable
from service.domain.task import UpstreamId
from service.runtime.bootstrap import build_application
from service.runtime.config.settings import load_settings
from tests.support.database_copies import database


async def test_redirect_of_the_provider_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request reaches the provider though a proxy is named for other programs; its redirect gets no key."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    seen: list[str] = []

    async def respond(request: Request) -> Response:
        seen.append(request.url.path)
        return RedirectResponse("/elsewhere")

    app = Starlette(routes=[Route("/{path:path}", respond, methods=["GET", "POST"])])
    async with serving(app, listen("127.0.0.1", 0), grace=1) as url:
        settings = load_settings(
            {
                "BOOMERANG_DATABASE_URL": await database(tmp_path),
                "BOOMERANG_UPSTREAM_URL": url,
                "BOOMERANG_UPSTREAM_KEY": "upstream-key-of-this-test",
                "BOOMERANG_SECRET_KEYS": "k" * 32,
            }
        )
        async with build_application(settings) as application:
            with pytest.raises(ProviderUnavailable):
                await application.upstream.fetch(UpstreamId("d758n65e878c73cmdg20"))
    assert len(seen) == 1
