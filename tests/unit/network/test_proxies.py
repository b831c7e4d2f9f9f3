"""Which proxy a request uses, by the variables of the environment and by NO_PROXY."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import BadSetting
from service.network.no_proxy import DirectHosts
from service.network.proxies import ProxyRules, proxy_rules, proxy_secrets

PROXY = "http://proxy.test:3128"


def used(rules: ProxyRules, url: str) -> str | None:
    """Return the address of the proxy for `url`, None for none."""
    proxy = rules.proxy_for(httpx.URL(url))
    return None if proxy is None else f"{proxy.scheme}://{proxy.host}:{proxy.port}"


@pytest.mark.parametrize(
    ("variables", "http", "https"),
    [
        ({}, None, None),
        ({"BOOMERANG_HTTP_PROXY": PROXY}, PROXY, PROXY),
        ({"HTTPS_PROXY": PROXY}, None, PROXY),
        ({"https_proxy": PROXY}, None, PROXY),
        ({"HTTP_PROXY": PROXY}, PROXY, None),
        ({"http_proxy": PROXY}, PROXY, None),
        ({"ALL_PROXY": PROXY}, PROXY, PROXY),
        ({"all_proxy": PROXY, "HTTPS_PROXY": "http://other.test:1"}, PROXY, "http://other.test:1"),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other.test:1"}, None, PROXY),
        ({"BOOMERANG_HTTP_PROXY": PROXY, "HTTPS_PROXY": "socks5://other.test"}, PROXY, PROXY),
        ({"BOOMERANG_HTTP_PROXY": "none", "HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY}, None, None),
        ({"HTTPS_PROXY": "proxy.test:3128"}, None, PROXY),
        ({"HTTPS_PROXY": "proxy.test"}, None, "http://proxy.test:80"),
        ({"HTTPS_PROXY": "https://proxy.test"}, None, "https://proxy.test:443"),
        ({"HTTPS_PROXY": f"{PROXY}/"}, None, PROXY),
        ({"HTTPS_PROXY": "http://[2001:db8::1]:3128"}, None, "http://2001:db8::1:3128"),
        ({"HTTPS_PROXY": "  "}, None, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None, None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "api.test"}, None, None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "", "NO_PROXY": "api.test"}, None, None),
    ],
)
def test_variables_select_the_proxy(variables: dict[str, str], http: str | None, https: str | None) -> None:
    """Ours is for all addresses; then comes that of the scheme, then that for all; small letters come first."""
    rules = proxy_rules(variables)
    assert used(rules, "http://api.test/") == http
    assert used(rules, "https://api.test/") == https


@pytest.mark.parametrize(
    "text",
    [
        "socks5://127.0.0.1:1080",
        "SOCKS5H://user:pass@host:1080",
        "ftp://proxy.test",
        "http://",
        "http://proxy.test:0",
        "http://proxy.test:99999",
        "http://proxy.test:port",
        "http://user:p@ss@proxy.test:3128",
        "http://user:pa#ss@proxy.test:3128",
        "http://user:pa/ss@proxy.test:3128",
        "http://proxy.test:3128/path",
        "http://proxy test:3128",
        "http://[::1:3128",
    ],
)
@pytest.mark.parametrize("name", ["BOOMERANG_HTTP_PROXY", "HTTPS_PROXY", "all_proxy"])
def test_unusable_proxy_is_one_line_without_its_value(name: str, text: str) -> None:
    """The line names the variable and what is allowed, once, and contains nothing of the value."""
    with pytest.raises(BadSetting) as refused:
        proxy_rules({name: text})
    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"{name} ")
    assert "http://" in line
    assert text not in line or text == "http://"
    assert ("SOCKS" in line) == text.lower().startswith("socks")


def test_user_and_password_are_decoded_and_not_shown() -> None:
    """Percent-encoded characters of a password are sent as they are meant; no representation has the password."""
    variables = {"HTTPS_PROXY": "http://us%40er:p%40ss%23%3A%25w%C3%B6rd@proxy.test:3128"}
    proxy = proxy_rules(variables).https
    assert proxy is not None
    assert (proxy.user, proxy.password) == ("us@er", "p@ss#:%wörd")
    assert proxy.credentials == "dXNAZXI6cEBzcyM6JXfDtnJk"
    assert "p@ss" not in repr(proxy_rules(variables))
    assert proxy_secrets(variables) == {"p@ss#:%wörd", proxy.credentials}


@pytest.mark.parametrize(
    ("entry", "direct", "proxied"),
    [
        ("example.org", ["example.org", "a.example.org", "A.B.Example.org", "example.org."], ["notexample.org", "org"]),
        (".example.org", ["example.org", "a.example.org"], ["notexample.org"]),
        ("*.example.org", ["a.example.org"], ["notexample.org"]),
        ("EXAMPLE.org.", ["example.org"], ["example.com"]),
        ("example.org:8443", ["example.org:8443", "a.example.org:8443"], ["example.org", "example.org:8444"]),
        ("example.org:443", ["example.org"], ["example.org:444"]),
        ("10.0.0.0/8", ["10.1.2.3", "10.1.2.3:99", "0x0a010203", "[::ffff:10.1.2.3]"], ["11.0.0.1", "ten.example.org"]),
        ("10.1.2.3/8", ["10.9.9.9"], ["11.0.0.1"]),
        ("192.0.2.7", ["192.0.2.7"], ["192.0.2.70", "192.0.2.8"]),
        ("192.0.2.7:81", ["192.0.2.7:81"], ["192.0.2.7"]),
        ("2001:db8::/32", ["[2001:db8:1::1]"], ["[2001:db9::1]", "10.0.0.1"]),
        ("[2001:db8::]/32", ["[2001:db8:1::1]"], ["[2001:db9::1]"]),
        ("2001:db8::1", ["[2001:db8::1]", "[2001:DB8:0::1]:444"], ["[2001:db8::2]"]),
        ("[2001:db8::1]", ["[2001:db8::1]"], ["[2001:db8::2]"]),
        ("[2001:db8::1]:444", ["[2001:db8::1]:444"], ["[2001:db8::1]"]),
        ("*", ["anything.test", "[2001:db8::1]", "10.0.0.1"], []),
        ("https://example.org", ["example.org"], ["other.org"]),
        ("10.96.0.0/12,.svc,.cluster.local", ["10.96.0.1", "a.ns.svc", "a.ns.svc.cluster.local"], ["a.svc.test"]),
        ("bücher.example", ["bücher.example", "xn--bcher-kva.example"], ["bucher.example"]),
        (" a.test , b.test\tc.test,,", ["a.test", "b.test", "c.test"], ["d.test"]),
        ("10.0.0.0/99, .., [, ::/x, good.test", ["good.test"], ["10.0.0.1"]),
        ("", ["localhost", "x.localhost", "127.0.0.1", "127.9.9.9:81", "127.1", "0x7f000001", "[::1]", "0"], []),
    ],
)
def test_no_proxy_excludes(entry: str, direct: list[str], proxied: list[str]) -> None:
    """Domains with what is under them, addresses and networks, ports, and always loopback; nothing else."""
    rules = proxy_rules({"ALL_PROXY": PROXY, "NO_PROXY": entry})
    for host in direct:
        assert used(rules, f"https://{host}/") is None, host
    for host in proxied:
        assert used(rules, f"https://{host}/") == PROXY, host


def test_port_of_a_scheme_is_its_default() -> None:
    """An entry with port 80 counts for an http address without a port."""
    assert ("example.org", 80) in DirectHosts("example.org:80")
    rules = proxy_rules({"ALL_PROXY": PROXY, "NO_PROXY": "example.org:80"})
    assert used(rules, "http://example.org/") is None
    assert used(rules, "https://example.org/") == PROXY


@given(st.text(max_size=40), st.sampled_from(["https://example.org/", "http://10.0.0.1:81/", "https://[2001:db8::1]/"]))
def test_any_text_excludes_or_does_not(text: str, url: str) -> None:
    """NO_PROXY is never a reason to fail: what cannot be read excludes nothing."""
    assert used(proxy_rules({"ALL_PROXY": PROXY, "NO_PROXY": text}), url) in {None, PROXY}


@given(st.text(max_size=40).filter(lambda text: text.strip() and not text.strip().isalnum()))
def test_any_text_is_a_proxy_or_one_line(text: str) -> None:
    """A value gives a proxy or a line that begins with its variable; no other error occurs."""
    try:
        rules = proxy_rules({"HTTPS_PROXY": text})
    except BadSetting as refused:
        (line,) = str(refused).splitlines()
        assert line.startswith("HTTPS_PROXY ")
    else:
        assert rules.https is None or rules.https.host
