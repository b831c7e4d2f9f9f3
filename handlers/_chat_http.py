"""Reads the answers of a platform's API within a limit of bytes. Shared by the chat handlers."""

import httpx

MAX_ANSWER = 1024 * 1024


async def bounded_body(response: httpx.Response) -> bytes:
    """Return the body and close the response; raises httpx.DecodingError for more than MAX_ANSWER bytes."""
    try:
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER:
                raise httpx.DecodingError("the answer is too large")
        return body
    finally:
        await response.aclose()
