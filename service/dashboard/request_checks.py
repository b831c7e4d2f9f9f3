"""What a request says about where it comes from, where it leads and what it accepts."""

from urllib.parse import quote, urlsplit

from starlette.requests import Request

from service.api.authentication import SAME_SITE


def is_own_form(request: Request, public_url: str | None) -> bool:
    """Return whether a page of this service sent a form, by what the browser says of it.

    A proxy may replace Host: then Sec-Fetch-Site decides, or the public address.
    """
    sites = request.headers.getlist("sec-fetch-site")
    if sites:
        return SAME_SITE.issuperset(sites)
    hosts = {request.headers.get("host", ""), urlsplit(public_url or "").netloc} - {""}
    return all(each.partition("://")[2] in hosts for each in request.headers.getlist("origin"))


def wants_json(request: Request) -> bool:
    """Return whether a request asks for JSON, by `format=json` or as the only type that it accepts."""
    accepted = request.headers.get("accept", "")
    return request.query_params.get("format") == "json" or ("json" in accepted and "html" not in accepted)


def own_path(text: str, default: str = "/") -> str:
    """Return `text` if it is a path of this service, else `default`: no redirect leads to another site."""
    if not text.startswith("/") or text.startswith(("//", "/\\")) or not text.isprintable() or "\\" in text:
        return default
    return quote(text, safe="/?&=%:+,~@!$'()*;-._")
