"""Check of the public address: a signed probe makes the round trip that a callback of the provider would make.

A service that runs answers it. If none does and our port is free, a listener takes the port for that moment.
"""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpx

from service.api.endpoints import CALLBACK_PREFIX
from service.api.probe_answers import ANSWER_HEADER, ProbeAnswers, probe_app
from service.api.server import listen, serving
from service.domain.probe_tokens import ProbeTokens
from service.network import certificates
from service.network.addresses import literal_addresses, names_loopback
from service.network.connection_errors import connect_reason, tls_reason
from service.network.transport import OutgoingTransport, outgoing
from service.runtime.checks.finding import Finding, Installation, fault, ok, warning
from service.runtime.config.key_file import generate_key

TIMEOUT = 10.0
"""Seconds for one probe."""

MAX_BODY = 1024
"""Bytes of an answer that are read."""

NO_ADDRESS = "no public address is set: no callback can come, and every task is polled"
ADDRESS_FIX = "set BOOMERANG_PUBLIC_URL to the https address at which the provider reaches this service"
FORWARD_FIX = "let that address lead to the port of `boomerang serve`, with its whole path, or correct it"
START_FIX = "start `boomerang serve`, and let the address lead to its port; or correct BOOMERANG_PUBLIC_URL"
OUTSIDE_FIX = f"{START_FIX}; where a network cannot reach its own public address, try it from outside"
TRUST_FIX = "use a certificate of a public authority with its whole chain: the provider calls no other address"
KEYS_FIX = "give both the same BOOMERANG_SECRET_KEYS and database, or correct BOOMERANG_PUBLIC_URL"

TRUST = frozenset({*certificates.FILES, certificates.FOLDERS})
"""Variables that name certificate authorities, of which the provider knows nothing."""

HTTP_TEXTS: Mapping[int, tuple[str, str]] = {
    401: ("asks for a password, which the provider does not have", "exempt /callbacks/ from the login of your proxy"),
    404: ("does not know the path /callbacks/", FORWARD_FIX),
    405: ("refuses POST", "let your proxy forward POST to /callbacks/"),
    **dict.fromkeys((502, 503, 504), ("is a proxy that reaches no service", START_FIX)),
}


class _NoAnswer(Exception):
    """A probe was not answered by a process with our keys; `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.text)
        self.finding = finding


async def check_public_address(at: Installation) -> Sequence[Finding]:
    """Check that the public address leads to this service."""
    url = at.settings.public_url
    if url is None:
        return [warning(NO_ADDRESS, ADDRESS_FIX)]
    if _is_internal(url) and not _is_internal(at.settings.upstream_url):
        return [fault(f"{url} is an internal address, which the provider cannot reach", ADDRESS_FIX)]
    try:
        return [await _round_trip(at, url, ProbeTokens(at.keys or [generate_key()]))]
    except _NoAnswer as no_answer:
        return [no_answer.finding]


async def _round_trip(at: Installation, url: str, tokens: ProbeTokens) -> Finding:
    """Send a probe to a service that runs, else to a listener at our own port; raises _NoAnswer."""
    try:
        return await _probe(at, url, tokens)
    except _NoAnswer:
        async with _listener(at, tokens) as listens:
            if not listens:
                raise
            found = await _probe(at, url, tokens)
    here = f"{url} leads to port {at.port} of this machine, where no service runs yet"
    return ok(here) if found.outcome == "ok" else found


def _is_internal(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return names_loopback(host) or any(not ip_address(each).is_global for each in literal_addresses(host))


@asynccontextmanager
async def _listener(at: Installation, tokens: ProbeTokens) -> AsyncIterator[bool]:
    """Answer probes at our own port inside the block; yields False if another process has the port."""
    async with AsyncExitStack() as stack:
        try:
            socket = listen(at.host, at.port)
        except OSError:
            yield False
            return
        await stack.enter_async_context(
            serving(probe_app(ProbeAnswers(tokens=tokens, clock=at.clock)), socket, grace=1)
        )
        yield True


async def _probe(at: Installation, url: str, tokens: ProbeTokens) -> Finding:
    """Return a finding about an address that leads to us; raises _NoAnswer."""
    public = {name: text for name, text in at.settings.outgoing.items() if name not in TRUST}
    try:
        return await _send(at, url, tokens, public)
    except httpx.ConnectError as error:
        if not (reason := tls_reason(error)):
            raise _NoAnswer(_unreachable(url, error)) from error
        refused = fault(f"the certificate of {url} is not trusted: {reason}", TRUST_FIX)
        if public == dict(at.settings.outgoing):
            raise _NoAnswer(refused) from error
    except httpx.HTTPError as error:
        raise _NoAnswer(_unreachable(url, error)) from error
    try:
        await _send(at, url, tokens, at.settings.outgoing)
    except httpx.HTTPError as error:
        raise _NoAnswer(refused) from error
    return warning(f"{url} leads here, but only BOOMERANG_CA_FILE or SSL_CERT_FILE trusts its certificate", TRUST_FIX)


async def _send(at: Installation, url: str, tokens: ProbeTokens, variables: Mapping[str, str]) -> Finding:
    nonce = secrets.token_urlsafe(24)
    address = f"{url}{CALLBACK_PREFIX}{tokens.token(nonce, at.clock.now())}"
    transport = OutgoingTransport(outgoing(variables))
    async with (
        httpx.AsyncClient(transport=transport, trust_env=False, timeout=TIMEOUT) as client,
        client.stream("POST", address, json={}) as response,
    ):
        proof = response.headers.get(ANSWER_HEADER, "")
        body = await _start(response) if not proof else ""
    if tokens.is_answer(proof or body, nonce):
        return ok(f"{url} leads to this service: a signed probe made the round trip")
    raise _NoAnswer(_other_answer(url, response, body))


async def _start(response: httpx.Response) -> str:
    """Return the beginning of the body."""
    found = b""
    async for chunk in response.aiter_bytes():
        found += chunk
        if len(found) >= MAX_BODY:
            break
    return found[:MAX_BODY].decode("utf-8", "replace").strip()


def _unreachable(url: str, error: httpx.HTTPError) -> Finding:
    reason = "no answer in time" if isinstance(error, httpx.TimeoutException) else connect_reason(error)
    return fault(f"{url} cannot be reached: {reason}", OUTSIDE_FIX)


def _other_answer(url: str, response: httpx.Response, body: str) -> Finding:
    status = response.status_code
    if "urn:boomerang:problem:bad-token" in body or "urn:boomerang:problem:key-missing" in body:
        return fault(f"{url} leads to a Boomerang with other signing keys", KEYS_FIX)
    if response.has_redirect_location:
        place = httpx.URL(response.headers["location"]).copy_with(path="/", query=None, fragment=None)
        return fault(
            f"{url} redirects callbacks (HTTP {status}) to {place}", "set BOOMERANG_PUBLIC_URL to that address"
        )
    text, fix = HTTP_TEXTS.get(status, ("is answered by something else", FORWARD_FIX))
    return fault(f"{url} {text} (HTTP {status})", fix)
