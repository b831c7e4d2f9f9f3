"""Which proxy an outgoing request uses: BOOMERANG_HTTP_PROXY, or the variables that other programs read too."""

import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import httpx

from service.domain.errors import BadSetting
from service.network.no_proxy import DirectHosts

DEFAULT_PORTS = {"http": 80, "https": 443}
SETTING = "BOOMERANG_HTTP_PROXY"
NO_PROXY_AT_ALL = "none"
"""Value of BOOMERANG_HTTP_PROXY that switches the proxies of the environment off."""

VARIABLES = {
    "http": (SETTING, "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"),
    "https": (SETTING, "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
}
"""Variables that name the proxy for addresses of each scheme; the first one that is set counts."""

EXCEPTIONS = ("no_proxy", "NO_PROXY")

EXPECTED = (
    "must be the address of a proxy like http://proxy.example.org:3128 or http://USER:PASSWORD@proxy.example.org:3128, "
    "with %40 %3A %2F for @ : / inside a name or password"
)


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A proxy: `scheme` is http or https; `user` is None where it wants none."""

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str = field(default="", repr=False)

    @property
    def credentials(self) -> str:
        """Return the user and password as Proxy-Authorization has them (RFC 7617)."""
        return b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")


@dataclass(frozen=True, kw_only=True)
class ProxyRules:
    """The proxies for http and https addresses (None: none), and the hosts that are connected to directly."""

    http: Proxy | None = None
    https: Proxy | None = None
    direct: DirectHosts = field(default_factory=DirectHosts)

    def proxy_for(self, url: httpx.URL) -> Proxy | None:
        """Return the proxy for a request to `url`, None for a direct connection."""
        proxy = self.http if url.scheme == "http" else self.https
        host = url.raw_host.decode("ascii")
        if proxy is None or (host, url.port or DEFAULT_PORTS.get(url.scheme, 0)) in self.direct:
            return None
        return proxy


def proxy_secrets(variables: Mapping[str, str]) -> set[str]:
    """Return what no log may contain: the passwords, as they are and as they are sent. Raises BadSetting."""
    rules = proxy_rules(variables)
    proxies = [proxy for proxy in (rules.http, rules.https) if proxy and proxy.user is not None]
    return {text for proxy in proxies for text in (proxy.password, proxy.credentials) if text}


def proxy_faults(variables: Mapping[str, str]) -> list[str]:
    """Return a line for each of `variables` that names no proxy that can be used."""
    try:
        proxy_rules(variables)
    except BadSetting as error:
        return str(error).splitlines()
    return []


def proxy_rules(variables: Mapping[str, str]) -> ProxyRules:
    """Return the rules in `variables`; raises BadSetting with one line for each variable that cannot be used.

    An empty value counts as not given.
    """
    found, faults = {}, []
    for scheme, names in VARIABLES.items():
        name = next((each for each in names if variables.get(each, "").strip()), None)
        try:
            found[scheme] = _proxy(variables[name].strip(), of_others=name != SETTING) if name else None
        except ValueError as error:
            faults.append(f"{name} {error}")
    if faults:
        raise BadSetting("\n".join(dict.fromkeys(faults)))
    exceptions = next((variables[each] for each in EXCEPTIONS if variables.get(each, "").strip()), "")
    return ProxyRules(http=found["http"], https=found["https"], direct=DirectHosts(exceptions))


def _proxy(text: str, *, of_others: bool) -> Proxy | None:
    """Return the proxy at the address `text`; one without a scheme is http. Raises ValueError without the text.

    Our own setting needs a scheme or a port, so that no other word is taken for a host. In variables `of_others` many
    programs take a name alone.
    """
    if text.lower() == NO_PROXY_AT_ALL:
        return None
    scheme, mark, _ = text.partition("://")
    if mark and scheme.lower().startswith("socks"):
        raise ValueError(
            f"names a SOCKS proxy, which is not supported: give an http:// or https:// proxy, or {SETTING}=none"
        )
    try:
        parts = urlsplit(text if mark else f"http://{text}")
        host, port = parts.hostname, parts.port
        name = httpx.URL(scheme="http", host=host or "").raw_host.decode("ascii")
    except (ValueError, httpx.InvalidURL):
        raise ValueError(EXPECTED) from None
    if not (mark or port or of_others):
        raise ValueError(EXPECTED)
    beyond = parts.path not in {"", "/"} or parts.query or parts.fragment or parts.netloc.count("@") > 1
    if parts.scheme not in DEFAULT_PORTS or not name or port == 0 or beyond or re.search(r"[\s\\\x00-\x1f]", text):
        raise ValueError(EXPECTED)
    return Proxy(
        scheme=parts.scheme,
        host=name,
        port=port or DEFAULT_PORTS[parts.scheme],
        user=None if parts.username is None else unquote(parts.username),
        password=unquote(parts.password or ""),
    )
