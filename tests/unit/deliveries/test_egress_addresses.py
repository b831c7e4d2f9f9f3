"""Which addresses the egress guard allows, and what the operator may add."""

import pytest

from service.deliveries.egress_policy import Egress, EgressRefused
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
def test_internal_addresses_are_refused(address: str) -> None:
    """Every address that is not plainly public is refused."""
    with pytest.raises(EgressRefused):
        Egress().check("host.test", 443, address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    """Public addresses are allowed."""
    Egress().check("host.test", 443, address)


def test_refusal_explains_how_to_allow_the_address() -> None:
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
def test_operator_can_allow_networks_and_hosts(
    entry: str, host: str, port: int, address: str, *, allowed: bool
) -> None:
    """An entry covers its network or its name, at its port, and nothing else."""
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
def test_invalid_entry_stops_the_start(entry: str) -> None:
    """The message for a misspelt entry names the setting."""
    with pytest.raises(BadSetting, match="BOOMERANG_EGRESS_ALLOW"):
        Egress(["127.0.0.0/8", entry])


def test_blank_entries_allow_nothing() -> None:
    """A trailing comma allows nothing."""
    with pytest.raises(EgressRefused):
        Egress(["", " "]).check("a.test", 80, "127.0.0.1")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "169.254.169.254", "10.0.0.1:8080", "127.1", "0x7f.1", "2130706433"]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_literal_internal_address_is_refused_before_a_connection(scheme: str, host: str) -> None:
    """No spelling needs a DNS lookup; the message names the setting that allows the address."""
    refusal = Egress().refusal(f"{scheme}://{host}/hook?q=1")
    assert refusal
    assert "BOOMERANG_EGRESS_ALLOW" in refusal


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1111]:444", "example.org", "localhost", "metadata.internal"])
def test_public_addresses_and_names_are_not_refused_in_advance(host: str) -> None:
    """The addresses of a name are checked when it is connected."""
    assert Egress().refusal(f"https://{host}/hook") is None


def test_literal_address_that_the_operator_allows_is_accepted() -> None:
    """The port counts, the default one of the scheme if the URL has none."""
    egress = Egress(["127.0.0.1:443", "127.0.0.1:8080"])
    assert [egress.refusal(f"{start}/") is None for start in ("https://127.0.0.1", "http://127.0.0.1:8080")] == [
        True
    ] * 2
    assert egress.refusal("http://127.0.0.1/")


@pytest.mark.parametrize("url", ["http://[::1", "ftp://127.0.0.1/", "http://\x00/", "https://xn--/"])
def test_invalid_url_is_refused_too(url: str) -> None:
    """The client that connects could not read it either."""
    assert Egress().refusal(url) == "it cannot be read as an http or https address"
