"""The page to read the OpenAPI document as a pydantic model."""

from pydantic import RootModel


class DocsPage(RootModel[str]):
    """A page in HTML."""
