"""The endpoints of the OpenAPI 3.1 document: for programs, and as a page."""

from dataclasses import dataclass
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from service.api.endpoints import json_response, route
from service.api.query_params import QueryParams


@dataclass(kw_only=True, slots=True)
class OpenApi:
    """The endpoints `/openapi.json` and `/docs`."""

    allow_off_peak: bool

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route("/openapi.json", get=self.show), route("/docs", get=self.read)]

    async def show(self, request: Request) -> Response:
        """Show the document; the first call generates it in a thread."""
        QueryParams(request).reject_errors()
        return json_response(await run_sync(self._document))

    async def read(self, request: Request) -> Response:
        """Show the document as a page that needs nothing else, so that it is readable offline."""
        QueryParams(request).reject_errors()
        return await run_sync(self._page)

    def _page(self) -> Response:
        from service.api.openapi.docs_page import POLICY, docs_page  # noqa: PLC0415 - few processes show it

        return HTMLResponse(docs_page(self._document()), headers={"Content-Security-Policy": POLICY})

    def _document(self) -> dict[str, Any]:
        from service.api.openapi.document import document  # noqa: PLC0415 - it imports the response models

        return document(allow_off_peak=self.allow_off_peak)
