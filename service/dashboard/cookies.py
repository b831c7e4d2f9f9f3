"""The cookies of the dashboard: the session, the browser that signs in, and a notice for the next page.

Each is http-only and of this site alone. Over https they are secure, and bound to this host by the prefix `__Host-`.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Literal
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

SESSION, BROWSER, NOTICE = "boomerang_session", "boomerang_browser", "boomerang_notice"
MAX_NOTICE = 600  # characters
NOTICE_SECONDS = 120

Level = Literal["done", "problem"]


def is_secure(request: Request, public_url: str | None) -> bool:
    """Return whether the browser reached the service over https, itself or through its proxy."""
    if request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "").split(",")[0].strip() == "https":
        return True
    public = urlsplit(public_url or "")
    return public.scheme == "https" and request.headers.get("host") == public.netloc


def read(request: Request, name: str) -> str | None:
    """Return the value of a cookie; over https only the one that is bound to this host."""
    return request.cookies.get(f"__Host-{name}") or request.cookies.get(name)


def write(response: Response, name: str, value: str, *, seconds: int, secure: bool) -> None:
    """Set a cookie for a time; zero seconds delete it."""
    response.set_cookie(
        f"__Host-{name}" if secure else name,
        value,
        max_age=seconds,
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )


def notice_value(level: Level, text: str) -> str:
    """Return the value of the cookie with a notice."""
    return urlsafe_b64encode(f"{level}:{text[:MAX_NOTICE]}".encode("utf-8", "replace")).decode()


def read_notice(request: Request) -> tuple[Level, str] | None:
    """Return the notice for this page, None without one."""
    try:
        text = urlsafe_b64decode(read(request, NOTICE) or "").decode()
    except ValueError:
        return None
    level, _, message = text.partition(":")
    if not message:
        return None
    return ("problem" if level == "problem" else "done"), message[:MAX_NOTICE]
