"""Reading of responses of the API: their size, their shape, and what a problem means for the exit code."""

import json
from collections.abc import Callable

import httpx

from service.cli import CommandFailed, Unreachable, UsageError
from service.cli.output import clean
from service.domain.task import Json

USAGE_STATUSES = frozenset({400, 401, 403, 413, 415, 422})
"""HTTP statuses for an invalid request or API key; the exit code is 2."""
RETRYABLE_STATUSES = frozenset({408, 429, 502, 503, 504})
"""HTTP statuses after which a later try may succeed."""

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Maximum response size in bytes; a page of any list fits, of an earlier release too."""


OPTIONS = {"params.prompt": "--prompt", "params.images": "--image", "params.videos": "--video"}
"""The options that give parameters of a model."""


async def read_body(response: httpx.Response) -> bytes:
    """Return the body. Raises CommandFailed if it is compressed or longer than MAX_RESPONSE_BYTES."""
    content = bytearray()
    if response.headers.get("content-encoding", "identity") != "identity":
        raise CommandFailed(_unexpected_response(response))
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > MAX_RESPONSE_BYTES:
            raise CommandFailed(_unexpected_response(response))
    return bytes(content)


def parse_response(response: httpx.Response, content: bytes, is_valid: Callable[[Json], bool]) -> Json:
    """Return the body of a successful response that `is_valid` accepts; raises the CommandFailed for any other."""
    try:
        body = json.loads(content) if content else {}
    except (ValueError, RecursionError):
        body = None
    if response.is_success and isinstance(body, dict) and is_valid(body):
        return body
    error_class = CommandFailed
    if response.status_code in USAGE_STATUSES:
        error_class = UsageError
    elif response.status_code in RETRYABLE_STATUSES:
        error_class = Unreachable
    raise error_class(_error_message(response, body))


def _error_message(response: httpx.Response, body: object) -> str:
    problem = body if isinstance(body, dict) and not (response.is_success or response.is_redirect) else {}
    summary = clean(problem.get("detail") or problem.get("title") or "")
    if not summary:
        return _unexpected_response(response)
    message = summary.removesuffix("; see errors")
    if response.status_code == httpx.codes.UNAUTHORIZED:
        message += " (set BOOMERANG_API_KEY or --api-key)"
    if response.status_code == httpx.codes.NOT_FOUND and problem.get("type") == "about:blank":
        message += f": {clean(response.url.path)} (is BOOMERANG_URL, or --url, the address of the service alone?)"
    errors = problem.get("errors")
    return "\n".join([message, *map(_field_error, errors if isinstance(errors, list) else [])])


def _unexpected_response(response: httpx.Response) -> str:
    return f"{response.url.host} did not respond like a Boomerang service (HTTP {response.status_code})"


def _field_error(error: object) -> str:
    """Return one entry of a problem's `errors` as an indented line."""
    if not isinstance(error, dict):
        return f"  {clean(error)}"
    loc = error.get("loc")
    path = ".".join(clean(part) for part in (loc if isinstance(loc, list) else ()))
    option = f" ({OPTIONS[path]})" if path in OPTIONS else ""
    return f"  {path}{option}: {clean(error.get('msg', ''))}"
