"""Behind a proxy: no address of a client leads the proxy to an internal host, and handlers work through it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from handlers.archive import archive
from handlers.webhook import webhook
from service.deliveries import proxied_hosts
from service.deliveries.attempt_outcome import AttemptContext, classify_attempt
from service.deliveries.egress_clients import EgressClients, EgressSettings, open_egress_clients
from service.deliveries.egress_guard import GuardedTransport
from service.deliveries.egress_policy import EgressRefused
from service.deliveries.proxied_hosts import ProxiedHosts
from service.domain.delivery_errors import UNREACHABLE
from service.domain.errors import Reject
from service.network.transport import outgoing
from tests.support.delivery_builders import NOW, SCHEDULE, event, tools, view
from tests.support.file_server import VIDEO, archive_setup
from tests.support.forward_proxy import ForwardProxy, forward_proxy
from tests.support.private_ca import PrivateCa, Site, site
from tests.unit.handlers.test_webhook import SETTINGS as SECRETS

ADDRESSES = {
    "public.test": ["8.8.8.8"],
    "two.test": ["2001:4860::8888", "8.8.4.4"],
    "internal.test": ["10.0.0.7"],
    "mixed.test": ["8.8.8.8", "10.0.0.7"],
    "denied.test": ["9.9.9.9"],
    "hooks.internal": ["8.8.8.8"],
    "metadata": ["8.8.8.8"],
}
"""The names that resolve here."""

NOTIFY = EgressSettings(deny=["9.9.9.9"])


async def resolve(host: str, _port: int) -> Sequence[str]:
    """Return the addresses of a name that resolves here."""
    if host not in ADDRESSES:
        raise OSError(host)
    return ADDRESSES[host]


@pytest.mark.parametrize(
    ("host", "requested"),
    [
        ("public.test", ["8.8.8.8"]),
        ("two.test", ["2001:4860::8888", "8.8.4.4"]),
        ("8.8.8.8", ["8.8.8.8"]),
        ("0x08080808", ["8.8.8.8"]),
        ("2001:4860::8888", ["2001:4860::8888"]),
        ("internal.test", None),
        ("mixed.test", None),
        ("denied.test", None),
        ("only-the-proxy-resolves.test", None),
        ("metadata", None),
        ("hooks.internal", None),
        ("10.0.0.7", None),
        ("127.0.0.1", None),
        ("127.1", None),
        ("127.0.0.1.", None),
        ("0x7f000001.", None),
        ("169.254.169.254", None),
        ("100.100.100.200", None),
        ("::ffff:169.254.169.254", None),
        ("fe80::1", None),
        ("::1", None),
        ("1.2.3.4.5", None),
        ("a.0x7f", None),
        ("9.9.9.9", None),
    ],
)
async def test_proxy_gets_checked_addresses_of_a_client(host: str, requested: list[str] | None) -> None:
    """A client's host is requested by a public address that was checked here, never by its name, or not at all."""
    guard = ProxiedHosts(NOTIFY.for_notify(), resolve=resolve)
    if requested is None:
        with pytest.raises(EgressRefused):
            await guard(host, 443)
    else:
        assert list(await guard(host, 443)) == requested


@pytest.mark.parametrize(
    ("host", "requested"),
    [
        ("public.test", ["public.test"]),
        ("only-the-proxy-resolves.test", ["only-the-proxy-resolves.test"]),
        ("8.8.8.8", ["8.8.8.8"]),
        ("internal.test", None),
        ("mixed.test", None),
        ("denied.test", None),
        ("metadata", None),
        ("metadata.google.internal", None),
        ("metadata.google.internal.", None),
        ("printer.local", None),
        ("db.home.arpa", None),
        ("intranet", None),
        ("10.0.0.7", None),
        ("127.0.0.1.", None),
        ("1.2.3.4.5", None),
    ],
)
async def test_proxy_gets_public_names_of_the_operator(host: str, requested: list[str] | None) -> None:
    """A result's host is requested by its name, also if only the proxy resolves it; what is internal is refused."""
    guard = ProxiedHosts(NOTIFY.for_handlers(), resolve=resolve)
    if requested is None:
        with pytest.raises(EgressRefused) as refused:
            await guard(host, 443)
        assert isinstance(refused.value, Reject) == host.rstrip(".")[-1].isdigit()
    else:
        assert list(await guard(host, 443)) == requested


@pytest.mark.parametrize("host", ["only-the-proxy-resolves.test", "metadata", "hooks.internal", "internal.test"])
async def test_host_that_an_entry_names_is_requested_by_its_name(host: str) -> None:
    """The entry counts at its port, for its kind of address; EGRESS_DENY counts for what resolves here."""
    named = EgressSettings(allow=[f"{host}:8443"], notify_allow=[f"{host}:8443"], deny=["10.0.0.7"])
    for egress in (named.for_notify(), named.for_handlers()):
        guard = ProxiedHosts(egress, resolve=resolve)
        if host == "internal.test":
            with pytest.raises(EgressRefused, match="EGRESS_DENY"):
                await guard(host, 8443)
            continue
        assert list(await guard(host, 8443)) == [host]
        if host != "only-the-proxy-resolves.test" or egress.pinned:
            with pytest.raises(EgressRefused):
                await guard(host, 8444)


async def test_own_webhook_address_is_requested_by_its_name() -> None:
    """WEBHOOK_URL may name a host that only the proxy resolves."""
    egress = NOTIFY.for_handlers("https://hooks.operator.internal/x")
    assert list(await ProxiedHosts(egress, resolve=resolve)("hooks.operator.internal", 443)) == [
        "hooks.operator.internal"
    ]


async def test_port_of_a_client_is_limited_behind_a_proxy() -> None:
    """A named host without a port in its entry keeps the rule for ports."""
    guard = ProxiedHosts(EgressSettings(notify_allow=["only.test"]).for_notify(), resolve=resolve)
    with pytest.raises(EgressRefused):
        await guard("only.test", 22)


async def test_public_address_of_this_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that is bound here leads back through the proxy: it is refused without an entry that covers it."""
    monkeypatch.setattr(proxied_hosts, "is_bound_here", lambda address: address == "8.8.8.8")
    for egress in (NOTIFY.for_notify(), NOTIFY.for_handlers()):
        with pytest.raises(EgressRefused, match="an address of this machine"):
            await ProxiedHosts(egress, resolve=resolve)("public.test", 443)
    allowed = EgressSettings(notify_allow=["8.8.8.8"]).for_notify()
    assert list(await ProxiedHosts(allowed, resolve=resolve)("public.test", 443)) == ["8.8.8.8"]


async def test_missing_name_server_does_not_hold_up_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where lookups hang, a result's host is requested by its name after a short wait."""

    async def hang(_host: str, _port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(proxied_hosts, "RESOLVE_SECONDS", 0.01)
    assert list(await ProxiedHosts(NOTIFY.for_handlers(), resolve=hang)("files.test", 443)) == ["files.test"]


# ── with a real proxy ────────────────────────────────────────────────────────


async def test_webhook_of_a_client_is_sent_to_the_checked_address(tmp_path: Path) -> None:
    """The proxy sees addresses only, also for http; TLS and Host have the name; nothing internal is requested."""
    ca = PrivateCa(tmp_path)
    async with site(Site(), ca.server_context("public.test", "two.test")) as secure, site(Site()) as plain:
        routes = {"8.8.8.8:443": secure.port, "8.8.4.4:443": secure.port, "8.8.8.8:80": plain.port}
        async with forward_proxy(ForwardProxy(routes=routes, default=1)) as proxy:
            network = outgoing({"ALL_PROXY": proxy.url, "BOOMERANG_CA_FILE": str(ca.file)})
            transport = GuardedTransport(NOTIFY.for_notify(), resolve=resolve, outgoing=network)
            async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=20) as http:
                for url in ("https://public.test/hook", "http://public.test/hook", "https://two.test/hook"):
                    assert (await http.post(url)).status_code == 200
                for host in (
                    "internal.test",
                    "mixed.test",
                    "unknown.test",
                    "metadata",
                    "[::ffff:10.0.0.1]",
                    "10.0.0.7",
                ):
                    for scheme in ("http", "https"):
                        with pytest.raises(EgressRefused):
                            await http.post(f"{scheme}://{host}/hook")
        assert (secure.hosts, secure.names) == (["public.test", "two.test"], ["public.test", "two.test"])
        assert plain.hosts == ["public.test"]
    requested = {line.removeprefix("CONNECT ") for line in proxy.requests}
    assert requested <= {"8.8.8.8:443", "8.8.8.8:80", "[2001:4860::8888]:443", "8.8.4.4:443"}


@asynccontextmanager
async def handlers_behind(proxy: ForwardProxy, ca: PrivateCa | None) -> AsyncIterator[EgressClients]:
    """Yield the clients of handlers behind `proxy`, which trust `ca`."""
    variables = {"HTTPS_PROXY": proxy.url} | ({"SSL_CERT_FILE": str(ca.file)} if ca else {})
    own = {"WEBHOOK_URL": "https://hooks.test/in"}
    async with open_egress_clients(EgressSettings(own_addresses=own), outgoing(variables)) as clients:
        yield clients


@pytest.mark.parametrize("trusts", [True, False])
async def test_archive_and_webhook_work_through_the_proxy(tmp_path: Path, trusts: bool) -> None:
    """Both use the proxy and the authority; without the authority the error says certificate, but not to clients."""
    ca, setup = PrivateCa(tmp_path), archive_setup(tmp_path / "videos")
    file = Site(body=VIDEO, content_type="video/mp4")
    async with (
        site(file, ca.server_context("files.test")) as files,
        site(Site(), ca.server_context("hooks.test")) as hooks,
    ):
        routes = {"files.test:443": files.port, "hooks.test:443": hooks.port}
        async with (
            forward_proxy(ForwardProxy(routes=routes)) as proxy,
            handlers_behind(proxy, ca if trusts else None) as all_,
        ):
            task = view(output=[{"type": "video", "url": "https://files.test/video.mp4"}])
            stored = tools(all_.handlers, settings={"ARCHIVE_URL": setup.folder.as_uri()}, results=setup.results)
            sent = tools(all_.own_addresses["WEBHOOK_URL"], settings=SECRETS | {"WEBHOOK_URL": "https://hooks.test/in"})
            errors = [await _error(archive(event(task=task), stored)), await _error(webhook(event(task=task), sent))]
        assert proxy.requests == ["CONNECT files.test:443", "CONNECT hooks.test:443"]
    if trusts:
        assert errors == [None, None]
        assert setup.files() == {"task-1.mp4": VIDEO}
        assert hooks.requests == ["POST /in"]
        return
    for error in errors:
        assert "certificate verify failed" in (_shown(error, requested=False) or "")
        shown = _shown(error, requested=True) or ""
        assert shown.startswith(UNREACHABLE)  # of which clients see this sentence only


async def _error(handling: object) -> BaseException | None:
    try:
        await handling  # type: ignore[misc] # the handlers are coroutines
    except Exception as error:  # noqa: BLE001 - whatever a handler raises
        return error
    return None


def _shown(error: BaseException | None, *, requested: bool) -> str | None:
    context = AttemptContext(attempt=1, limit=9, schedule=SCHEDULE, now=NOW, jitter=0.0, requested=requested)
    return classify_attempt(error, context).error


@pytest.mark.parametrize("variables", [{}, {"NO_PROXY": "public.test"}])
async def test_direct_connections_stay_guarded(variables: Mapping[str, str]) -> None:
    """An exception from the proxy is no exception from the guard."""
    async with forward_proxy(ForwardProxy()) as proxy:
        network = outgoing({"ALL_PROXY": proxy.url, **variables, "NO_PROXY": "internal.test"})
        transport = GuardedTransport(NOTIFY.for_handlers(), resolve=resolve, outgoing=network)
        async with httpx.AsyncClient(transport=transport, trust_env=False) as http:
            for url in ("http://internal.test/", "https://127.0.0.1/", "http://localhost.:1/"):
                with pytest.raises((EgressRefused, httpx.ConnectError)):
                    await http.get(url)
    assert proxy.requests == []
