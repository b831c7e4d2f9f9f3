"""Which addresses the dial-time guard lets through, and what the operator may allow."""

import pytest

from service.deliveries.egress import Egress, EgressRefused
from service.domain.errors import BadSetting

INTERNAL = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",  # noqa: S104 - an address to be refused
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "169.254.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "233.252.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "4000::1",
    "not an address",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::1"]


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_addresses_are_refused_by_name_of_the_setting(address: str) -> None:
    """Whatever is not plainly public is refused."""
    with pytest.raises(EgressRefused):
        Egress().check("host.test", 443, address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    """The world may be dialled."""
    Egress().check("host.test", 443, address)


def test_a_refusal_says_how_to_allow_it() -> None:
    """The message names the host, the address and the setting."""
    with pytest.raises(EgressRefused, match=r"files\.test is at 10\.0\.0\.1.*BOOMERANG_EGRESS_ALLOW"):
        Egress().check("files.test", 80, "10.0.0.1")


@pytest.mark.parametrize(
    ("entry", "host", "port", "address", "allowed"),
    [
        ("127.0.0.0/8", "a.test", 80, "127.1.2.3", True),
        ("127.0.0.0/8", "a.test", 80, "10.0.0.1", False),
        ("127.0.0.0/8", "a.test", 80, "::ffff:127.0.0.1", False),
        ("10.1.2.3", "a.test", 80, "10.1.2.3", True),
        ("10.1.2.3:8080", "a.test", 8080, "10.1.2.3", True),
        ("10.1.2.3:8080", "a.test", 80, "10.1.2.3", False),
        ("::1", "a.test", 80, "::1", True),
        ("[::1]:90", "a.test", 90, "::1", True),
        ("[::1]:90", "a.test", 91, "::1", False),
        ("fd00::/8", "a.test", 80, "fd00:ec2::254", True),
        ("media.internal", "media.internal", 80, "10.0.0.1", True),
        ("Media.Internal.", "MEDIA.internal.", 80, "10.0.0.1", True),
        ("media.internal", "evil.media.internal", 80, "10.0.0.1", False),
        ("media.internal", "media.internal.evil.test", 80, "10.0.0.1", False),
        ("media.internal:9000", "media.internal", 9000, "10.0.0.1", True),
        ("media.internal:9000", "media.internal", 80, "10.0.0.1", False),
        ("localhost", "localhost", 80, "127.0.0.1", True),
    ],
)
def test_the_operator_can_allow_networks_and_hosts(
    entry: str, host: str, port: int, address: str, *, allowed: bool
) -> None:
    """An entry covers its network or its name, at its port, and nothing beside it."""
    try:
        Egress([entry]).check(host, port, address)
    except EgressRefused:
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize(
    "entry",
    [
        "127.0.0.1/8",
        "300.1.1.1",
        "10.0.0.0/33",
        "http://a.test",
        "*.internal",
        "a b",
        "a.test:0",
        "a.test:99999",
        "a/b",
    ],
)
def test_an_entry_that_means_nothing_stops_the_start(entry: str) -> None:
    """A misspelt entry is refused by name of the setting."""
    with pytest.raises(BadSetting, match="BOOMERANG_EGRESS_ALLOW"):
        Egress(["127.0.0.0/8", entry])


def test_blank_entries_are_nothing() -> None:
    """A trailing comma allows nothing."""
    with pytest.raises(EgressRefused):
        Egress(["", " "]).check("a.test", 80, "127.0.0.1")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "169.254.169.254", "10.0.0.1:8080", "127.1", "0x7f.1", "2130706433"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_written_internal_address_is_refused_before_it_is_dialled(scheme: str, host: str) -> None:
    """However it is spelled, no look-up is needed to know; the message names the setting that allows it."""
    told = Egress().refusal(f"{scheme}://{host}/hook?q=1")
    assert told
    assert "BOOMERANG_EGRESS_ALLOW" in told


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1111]:444", "example.org", "localhost", "metadata.internal"])
def test_public_address_and_any_name_may_be_dialled_as_far_as_we_know(host: str) -> None:
    """What a name stands for is decided when it is dialled."""
    assert Egress().refusal(f"https://{host}/hook") is None


def test_written_address_that_the_operator_allows_is_fine() -> None:
    """The port counts, the scheme's usual one where none is written."""
    egress = Egress(["127.0.0.1:443", "127.0.0.1:8080"])
    assert [egress.refusal(f"{start}/") is None for start in ("https://127.0.0.1", "http://127.0.0.1:8080")] == [
        True
    ] * 2
    assert egress.refusal("http://127.0.0.1/")


@pytest.mark.parametrize("url", ["http://[::1", "ftp://127.0.0.1/", "http://\x00/", "https://xn--/"])
def test_what_nobody_can_dial_is_refused_too(url: str) -> None:
    """The client that dials could not read it either."""
    assert Egress().refusal(url) == "it cannot be read as an http or https address"
