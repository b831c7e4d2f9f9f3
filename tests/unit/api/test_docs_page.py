"""`GET /docs`: the OpenAPI document as a page that is readable offline."""

import re
from html.parser import HTMLParser

import httpx

from service.api.openapi.docs_page import docs_page
from service.api.openapi.document import document
from service.api.openapi.operations import OPERATIONS

VOID = {"meta"}


class Outline(HTMLParser):
    """Collects ids, addresses and open elements."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.elements: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.add(tag)
        self.open += [tag] if tag not in VOID else []
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"href", "src", "action", "style"} or name.startswith("on"):
                self.addresses.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        """Check that elements end in order."""
        if tag == "p" and self.open[-1] != "p":
            return
        assert self.open.pop() == tag


async def test_page_has_every_operation_and_no_other_address(client: httpx.AsyncClient) -> None:
    """Each operation and schema has its place, each link leads to one, and nothing is loaded or run."""
    response = await client.get("/docs")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    outline = Outline()
    outline.feed(response.text)
    assert outline.open == []
    assert {operation.id for operation in OPERATIONS} <= set(outline.ids)
    assert len(set(outline.ids)) == len(outline.ids)
    assert {address for address in outline.addresses if not address.startswith("#")} == {"/openapi.json"}
    assert {address[1:] for address in outline.addresses if address.startswith("#")} <= set(outline.ids)
    assert outline.elements.isdisjoint({"script", "link", "img", "iframe", "form", "object"})
    assert not re.search(r"@import|url\(", response.text)


async def test_wrong_parameter_is_refused(client: httpx.AsyncClient) -> None:
    """As everywhere."""
    assert (await client.get("/docs?theme=dark")).status_code == 422


def test_text_of_the_document_is_escaped() -> None:
    """A description cannot become an element."""
    plain = document(allow_off_peak=False)
    evil = {**plain, "info": {**plain["info"], "description": "<script>alert(1)</script> `<b>`"}}
    page = docs_page(evil)
    assert "<script>" not in page
    assert "<code>&lt;b&gt;</code>" in page
