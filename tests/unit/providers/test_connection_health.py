"""The reason why the provider is not reached is kept until it is reached, and logged once."""

import ssl
from contextlib import suppress

import httpx
import pytest
import structlog.testing

from service.providers import ConnectionHealth

URL = "https://api.provider.test/tasks"


def certificate_error() -> httpx.ConnectError:
    """Return the error of a connection whose certificate is for another host."""
    cause = ssl.SSLCertVerificationError(1, "certificate verify failed")
    cause.verify_message = "Hostname mismatch, certificate is not valid for 'api.provider.test'."
    error = httpx.ConnectError("10.0.0.1: certificate verify failed")
    error.__cause__ = cause
    return error


async def test_reason_is_kept_until_the_next_response() -> None:
    """A warning names the certificate and no host; a response of any status removes it; each change is logged once."""
    outcomes: list[Exception | int] = [certificate_error(), certificate_error(), 500, httpx.ConnectTimeout("slow"), 200]

    def respond(_: httpx.Request) -> httpx.Response:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return httpx.Response(outcome)

    health = ConnectionHealth(httpx.MockTransport(respond))
    seen = []
    with structlog.testing.capture_logs() as lines:
        async with httpx.AsyncClient(transport=health) as http:
            while outcomes:
                with suppress(httpx.TransportError):
                    await http.post(URL)
                seen.append(health.warnings())
    certificate = ("provider: certificate verify failed: Hostname mismatch",)
    assert seen == [certificate, certificate, (), ("provider: ConnectTimeout",), ()]
    assert [line["event"] for line in lines] == [
        "provider connection failed",
        "provider connection restored",
        "provider connection failed",
        "provider connection restored",
    ]


@pytest.mark.parametrize(
    "error", [httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("odd"), httpx.PoolTimeout("full")]
)
async def test_lost_response_is_no_failed_connection(error: httpx.TransportError) -> None:
    """A request that was sent, or waited in this process, says nothing about the connection."""

    def respond(_: httpx.Request) -> httpx.Response:
        raise error

    health = ConnectionHealth(httpx.MockTransport(respond))
    async with httpx.AsyncClient(transport=health) as http:
        with pytest.raises(type(error)):
            await http.post(URL)
    assert health.warnings() == ()
