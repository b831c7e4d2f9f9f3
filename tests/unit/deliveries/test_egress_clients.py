"""Addresses of clients, of the operator and of this machine have different guards."""

from typing import Any
from unittest.mock import patch

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from service.deliveries import egress_policy, own_addresses
from service.deliveries.egress_clients import EgressSettings, open_egress_clients
from service.deliveries.egress_guard import GuardedTransport
from service.deliveries.egress_policy import Egress, EgressRefused
from service.deliveries.own_addresses import is_own_address
from service.domain.errors import BadSetting, Reject
from tests.support.delivery_builders import handler
from tests.unit.deliveries.test_egress_guard import Names, serving


async def _nothing(_event: object, _tools: object) -> None:
    return None


HOOKS = handler("webhook", _nothing, always_with="WEBHOOK_URL")
ARCHIVE = handler("archive", _nothing, needs=("ARCHIVE_URL",))
OTHER = handler("other", _nothing)
TARGET = {"handler": "other", "url": "https://example.org"}


async def _dial(http: httpx.AsyncClient, url: str) -> bool:
    """Return whether `http` dials `url`."""
    try:
        await http.get(url)
    except EgressRefused:
        return False
    return True


async def test_settings_allow_only_their_own_kind_of_address() -> None:
    """EGRESS_ALLOW counts for the operator's handlers, NOTIFY_ALLOW for targets, and neither for the other."""
    async with serving() as server:
        url = f"http://127.0.0.1:{server.port}/"
        for given, expected in (
            (EgressSettings(allow=["127.0.0.1"]), [False, True]),
            (EgressSettings(notify_allow=["127.0.0.1"]), [True, False]),
        ):
            async with open_egress_clients(given) as clients:
                found = [clients.client_for(OTHER, target) for target in (TARGET, {})]
                assert [await _dial(http, url) for http in found] == expected


async def test_own_address_of_the_operator_needs_no_entry() -> None:
    """WEBHOOK_URL is dialled at its host and port by the handler that uses it, and by no other."""
    async with serving() as server:
        url = f"http://127.0.0.1:{server.port}/"
        settings = EgressSettings(own_addresses={"WEBHOOK_URL": url, "ARCHIVE_URL": "file:///srv/videos"})
        async with open_egress_clients(settings) as clients:
            assert await _dial(clients.client_for(HOOKS, {}), url)
            for http in (
                clients.client_for(HOOKS, TARGET),
                clients.client_for(ARCHIVE, {}),
                clients.client_for(OTHER, {}),
            ):
                assert not await _dial(http, url)
            assert not await _dial(clients.client_for(HOOKS, {}), f"http://127.0.0.1:{server.port + 1}/")


@pytest.mark.parametrize(
    "url", ["http://127.1:90/", "http://LOCALHOST:90/", "http://[::1]:90/", "http://2130706433:90"]
)
def test_own_address_is_understood_in_any_spelling(url: str) -> None:
    """The entry for an address of the operator covers what the address names, at its port."""
    egress = EgressSettings(own_addresses={}).for_handlers(url)
    host = httpx.URL(url).host
    egress.check(host, 90, "::1" if ":" in host else "127.0.0.1")
    with pytest.raises(EgressRefused):
        egress.check(host, 91, "127.0.0.1")


DENIED = ["8.8.8.0/24", "2001:4860::/32", "1.1.1.1"]


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860::8888", "1.1.1.1", "::ffff:8.8.8.8"])
@pytest.mark.parametrize("allow", [[], ["8.8.8.8", "2001:4860::8888", "1.1.1.1", "::ffff:0:0/96", "host.test"]])
def test_denied_networks_are_never_dialled(address: str, allow: list[str]) -> None:
    """EGRESS_DENY counts for every guard, and more than an entry that allows."""
    settings = EgressSettings(allow=allow, notify_allow=allow, deny=DENIED, own_addresses={})
    for egress in (settings.for_notify(), settings.for_handlers(), settings.for_handlers("https://host.test/")):
        with pytest.raises(EgressRefused):
            egress.check("host.test", 443, address)
        egress.check("host.test", 443, "9.9.9.9")


def test_denied_literal_is_refused_at_submission() -> None:
    """No lookup can change it. A client gets the same answer as for an internal one; the log has the reason."""
    egress = EgressSettings(deny=DENIED).for_notify()
    denied, internal = egress.refusal("https://8.8.8.8/hook"), egress.refusal("https://10.0.0.7/hook")
    assert denied == internal
    assert denied is not None
    assert "NOTIFY_ALLOW" in denied
    assert "EGRESS_DENY" not in denied
    with capture_logs() as lines, patch.object(egress_policy, "log", structlog.get_logger()):
        egress.refusal("https://8.8.8.8/hook")
    assert lines == [
        {
            "event": "address refused",
            "log_level": "info",
            "reason": "8.8.8.8 is at 8.8.8.8, which is in a network of BOOMERANG_EGRESS_DENY",
        }
    ]


@pytest.mark.parametrize("entry", ["example.org", "8.8.8.8:53", "10.0.0.1/8", "300.1.1.1"])
def test_invalid_network_stops_the_start(entry: str) -> None:
    """Only networks and addresses can be denied."""
    with pytest.raises(BadSetting, match="BOOMERANG_EGRESS_DENY"):
        Egress(deny=[entry])


@pytest.mark.parametrize(
    ("port", "entry", "dialled"),
    [
        (80, None, True),
        (443, None, True),
        (1024, None, True),
        (65_535, None, True),
        (22, None, False),
        (25, None, False),
        (81, None, False),
        (1023, None, False),
        (25, "host.test", False),
        (25, "0.0.0.0/0", False),
        (25, "host.test:25", True),
        (25, "8.8.8.0/24:25", True),
        (25, "9.9.9.0/24:25", False),
        (25, "other.test:25", False),
        (26, "host.test:25", False),
    ],
)
def test_ports_of_clients_are_limited(port: int, entry: str | None, dialled: bool) -> None:
    """80, 443 and from 1024; others only where an entry names the port. The operator's handlers dial every port."""
    entries = [] if entry is None else [entry]
    EgressSettings(allow=entries).for_handlers().check("host.test", port, "8.8.8.8")
    guard = EgressSettings(notify_allow=entries).for_notify()
    if dialled:
        guard.check("host.test", port, "8.8.8.8")
        assert guard.refusal(f"http://host.test:{port}/") is None
    else:
        with pytest.raises(EgressRefused):
            guard.check("host.test", port, "8.8.8.8")


@pytest.mark.parametrize("url", ["http://host.test:22/", "https://8.8.8.8:25/", "http://[2606:4700::1111]:81/"])
def test_port_is_refused_at_submission(url: str) -> None:
    """The port is in the address itself; the message names the setting and no address inside."""
    reason = EgressSettings().for_notify().refusal(url) or ""
    assert "is not dialled: use 80, 443 or one from 1024, unless BOOMERANG_NOTIFY_ALLOW names" in reason


# ── addresses of this machine ────────────────────────────────────────────────


@pytest.fixture
def every_address_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take loopback for public, as a public address that is bound on this machine."""
    monkeypatch.setattr(egress_policy, "_public", lambda _: True)


@pytest.mark.usefixtures("every_address_public")
async def test_connection_to_this_machine_is_closed_before_a_byte() -> None:
    """A public address of this machine leads to its internal servers: nothing is sent, and no port is revealed."""
    async with serving() as server:
        transport = GuardedTransport(Egress(), resolve=Names(["127.0.0.1"]))
        async with httpx.AsyncClient(transport=transport) as http:
            for url in (f"http://public.test:{server.port}/", f"https://public.test:{server.port}/"):
                with pytest.raises(EgressRefused, match="an address of this machine") as refused:
                    await http.get(url)
                assert not isinstance(refused.value, Reject)
    assert set(server.hosts) <= {repr(b"")}


@pytest.mark.usefixtures("every_address_public")
async def test_address_of_this_machine_can_be_allowed() -> None:
    """An entry allows it as it allows an internal one."""
    async with serving() as server:
        transport = GuardedTransport(Egress([f"public.test:{server.port}"]), resolve=Names(["127.0.0.1"]))
        async with httpx.AsyncClient(transport=transport) as http:
            assert (await http.get(f"http://public.test:{server.port}/")).text == "ok"


@pytest.mark.parametrize(
    ("local", "remote", "own"),
    [
        (("203.0.113.5", 50_000), ("203.0.113.5", 80), True),
        (("127.0.0.1", 50_000), ("127.0.0.9", 80), True),
        (("10.0.0.5", 50_000), ("203.0.113.5", 80), False),
        (("2001:db8::5", 50_000, 0, 0), ("2001:db8::5", 80, 0, 0), True),
        (("2001:db8::5", 50_000, 0, 0), ("2001:db8::6", 80, 0, 0), False),
        (None, ("203.0.113.5", 80), False),
        ("/run/socket", "/run/socket", False),
    ],
)
def test_own_addresses_are_recognized(local: Any, remote: Any, *, own: bool) -> None:
    """By the address that the connection comes from, or, of several in one network, by binding the other one."""
    assert is_own_address(local, remote) == own


def test_machine_that_binds_every_address_compares_the_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Linux binds foreign addresses too, binding proves nothing."""
    monkeypatch.setattr(own_addresses, "_binds", lambda _family, _address: True)
    assert not is_own_address(("10.0.0.5", 50_000), ("203.0.113.5", 80))
    assert is_own_address(("203.0.113.5", 50_000), ("203.0.113.5", 80))


async def test_target_of_the_previous_release_is_not_dialled() -> None:
    """The changed scheme of an entry with a sealed secret is refused, and the delivery is tried again later."""
    async with open_egress_clients(EgressSettings(notify_allow=["127.0.0.0/8"])) as clients:
        with pytest.raises((EgressRefused, httpx.UnsupportedProtocol)) as refused:
            await clients.notify.post("sealed+https://127.0.0.1/hook")
    assert not isinstance(refused.value, Reject)


async def test_clients_are_closed() -> None:
    """Every client is closed after the block."""
    async with open_egress_clients(EgressSettings(own_addresses={"WEBHOOK_URL": "https://example.org/"})) as clients:
        every = [clients.notify, clients.handlers, *clients.own_addresses.values()]
    assert [one.is_closed for one in every] == [True] * 3
