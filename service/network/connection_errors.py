"""Says why a connection failed, in words that an operator can search for."""

import os
import socket
import ssl
from collections.abc import Iterator

import httpcore
import httpx

MAX_CHAIN = 8
"""Errors behind an error that are read."""

CERTIFICATE = "certificate verify failed"


def tls_reason(error: BaseException) -> str | None:
    """Return why TLS failed, None for an error of another kind. The text has no host and no address."""
    for each in _chain(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            reason = each.verify_message.partition(",")[0]  # a mismatch names the host after the comma
            return f"{CERTIFICATE}: {reason}" if reason else CERTIFICATE
        if isinstance(each, ssl.SSLError) and each.reason:
            return f"TLS failed: {each.reason.replace('_', ' ').lower()}"
        if isinstance(each, ssl.SSLEOFError | ssl.SSLZeroReturnError):  # some have no reason
            return "TLS failed: unexpected eof while reading"
    return None


def transport_reason(error: BaseException) -> str:
    """Return why a request failed, without hosts and addresses: TLS, the proxy, the system, or the error's class."""
    if isinstance(error, httpx.ProxyError):
        faults = [str(each) for each in _chain(error) if isinstance(each, ProxyFault)]
        return faults[-1] if faults else "the proxy failed"  # the first one may name the host
    reason = _system_reason(error) if isinstance(error, httpx.ConnectError) else tls_reason(error)
    return reason or type(error).__name__


def connect_reason(error: BaseException) -> str:
    """Return why one address could not be connected to, for a list of addresses."""
    faults = [str(each) for each in _chain(error) if isinstance(each, ProxyFault)]
    return (faults[-1] if faults else _system_reason(error)) or str(error) or type(error).__name__


def _system_reason(error: BaseException) -> str | None:
    """Return what TLS or the system says, None for nothing. The text has no host and no address."""
    if reason := tls_reason(error):
        return reason
    if any(isinstance(each, socket.gaierror) for each in _chain(error)):
        return "the name does not resolve"
    system = [each for each in _chain(error) if isinstance(each, OSError) and not isinstance(each, ssl.SSLError)]
    codes = [each.errno for each in system if each.errno]
    return os.strerror(codes[-1]) if codes else None


class ProxyFault(httpcore.ProxyError):
    """The proxy is at fault, with a reason without hosts; the request did not leave it."""


def unreachable_proxy(error: BaseException) -> ProxyFault:
    """Return the error for a proxy that could not be connected to because of `error`."""
    if reason := tls_reason(error):
        return ProxyFault(f"the proxy: {reason}")
    reason = _system_reason(error)
    return ProxyFault(f"the proxy could not be connected to: {reason}" if reason else "no connection to the proxy")


def refused_by_proxy(status: int) -> ProxyFault:
    """Return the error for a proxy that answered `status` itself. Its own text is not repeated."""
    phrase = httpx.codes.get_reason_phrase(status)
    return ProxyFault(f"the proxy answered {status} {phrase}".rstrip())


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and those behind it; the pool of httpcore raises its errors `from None`, which hides them."""
    seen: BaseException | None = error
    for _ in range(MAX_CHAIN):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__
