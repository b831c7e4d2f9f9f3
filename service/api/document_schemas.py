"""The OpenAPI document, and the page to read it, as pydantic models."""

from typing import Any

from pydantic import RootModel


class OpenApiDocument(RootModel[dict[str, Any]]):
    """A document of OpenAPI 3.1."""


class DocsPage(RootModel[str]):
    """A page in HTML."""
