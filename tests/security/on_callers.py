"""Requests from elsewhere, from pages of other sites, and with forged keys."""

from functools import partial
from pathlib import Path

from tests.security.catalogue import attempt, check_all, require
from tests.security.environment import ALICE, ROOT, ServiceUnderTest, bearer, service_under_test
from tests.security.raw import exchange, request, statuses

LOCAL: dict[str, tuple[str, list[str]]] = {
    "Host of a rebound name": ("evil.example.org", []),
    "Host with our port": ("evil.example.org:8080", []),
    "Host 127.0.0.1.evil.example.org": ("127.0.0.1.evil.example.org", []),
    "Host with a user": ("127.0.0.1@evil.example.org", []),
    "Host localhost.evil.example.org": ("localhost.evil.example.org", []),
    "an empty Host": ("", []),
    "two Hosts": ("127.0.0.1", ["Host: evil.example.org"]),
    "X-Forwarded-For": ("127.0.0.1", ["X-Forwarded-For: 203.0.113.9"]),
    "X-Forwarded-For of loopback": ("127.0.0.1", ["X-Forwarded-For: 127.0.0.1"]),
    "Forwarded": ("127.0.0.1", ["Forwarded: for=203.0.113.9"]),
    "X-Real-IP": ("127.0.0.1", ["X-Real-IP: 203.0.113.9"]),
    "X-Forwarded-Proto alone": ("127.0.0.1", ["X-Forwarded-Proto: https"]),
    "Via": ("127.0.0.1", ["Via: 1.1 tunnel"]),
    "CF-Connecting-IP": ("127.0.0.1", ["CF-Connecting-IP: 203.0.113.9"]),
    "True-Client-IP": ("127.0.0.1", ["True-Client-IP: 203.0.113.9"]),
    "Origin of another site": ("127.0.0.1", ["Origin: https://evil.example.org"]),
    "Origin null": ("127.0.0.1", ["Origin: null"]),
    "Origin of another port": ("127.0.0.1", ["Origin: http://127.0.0.1:1"]),
    "two Origins": ("127.0.0.1", ["Origin: http://127.0.0.1", "Origin: https://evil.example.org"]),
    "Referer of another site": ("127.0.0.1", ["Referer: https://evil.example.org/tasks"]),
    "Referer of another port": ("127.0.0.1", ["Referer: http://127.0.0.1:1/"]),
    "X-Original-Host": ("127.0.0.1", ["X-Original-Host: video.example.org"]),
    "Sec-Fetch-Site: cross-site": ("127.0.0.1", ["Sec-Fetch-Site: cross-site"]),
    "Sec-Fetch-Site: same-site": ("127.0.0.1", ["Sec-Fetch-Site: same-site"]),
}


async def _from_elsewhere(host: str, lines: list[str], g: ServiceUnderTest) -> str:
    """Send requests as if from another machine or site to a service without keys: all are refused."""
    found = []
    for method, path in (("GET", "/v1/tasks"), ("POST", "/v1/tasks"), ("POST", "/v1/reconcile"), ("GET", "/metrics")):
        raw = request(method, path, *lines, "Content-Length: 0", "Connection: close", host=host)
        found += statuses(await exchange(g.port, raw, seconds=2))
    require(set(found) <= {400, 403} and len(found) == 4, f"answered {found}")
    return f"answered {sorted(set(found))}"


check_all(
    "no keys",
    {name: partial(_from_elsewhere, *sent) for name, sent in LOCAL.items()},
    partial(service_under_test, API_KEYS=""),
)


@attempt("CSRF", "a form's POST of text/plain with JSON in it")
async def simple_post(home: Path) -> str:
    """Send what a page of another site can send without a preflight: it creates no task."""
    async with service_under_test(home, API_KEYS="") as g:
        found = []
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            headers = {"Content-Type": kind, "Origin": "null"} if kind else {}
            found.append((await g.http.post("/v1/tasks", content=b"{}", headers=headers)).status_code)
        require(set(found) <= {403, 405, 415}, f"answered {found}")
        preflight = await g.http.request("OPTIONS", "/v1/tasks", headers={"Origin": "https://evil.example.org"})
        permitted = [name for name in preflight.headers if name.startswith("access-control-")]
        require(not permitted, f"a preflight of another site was answered with {permitted}")
        require("access-control-allow-origin" not in preflight.headers, "CORS lets others read")
        return f"answered {found}, no CORS header"


KEYS: dict[str, list[str]] = {
    "no key": [],
    "an unknown key": ["Authorization: Bearer not-a-valid-key"],
    "an empty key": ["Authorization: Bearer "],
    "Basic": ["Authorization: Basic YWxpY2U6YWxpY2U="],
    "a key cut by one": [f"Authorization: Bearer {ALICE[:-1]}"],
    "a key of the other case": [f"Authorization: Bearer {ALICE.upper()}"],
    "a key in the query": [],
    "a key with another behind it": [f"Authorization: Bearer {ALICE}, Bearer {ROOT}"],
    "two headers, a good one last": ["Authorization: Bearer nobody-knows-it", f"Authorization: Bearer {ALICE}"],
    "two headers, a good one first": [f"Authorization: Bearer {ALICE}", "Authorization: Bearer nobody-knows-it"],
    "two good headers": [f"Authorization: Bearer {ALICE}", f"Authorization: Bearer {ROOT}"],
    "Proxy-Authorization": [f"Proxy-Authorization: Bearer {ALICE}"],
    "Latin-1 in the key": ["Authorization: Bearer \xe4\xf6\xfc\xdf\xe4\xf6\xfc\xdf"],
    "the key's SHA-256": ["Authorization: Bearer " + "0" * 64],
}


async def _signed_in(query: str, lines: list[str], g: ServiceUnderTest) -> str:
    raw = request("GET", f"/v1/tasks{query}", *lines, "Connection: close")
    received = await exchange(g.port, raw, seconds=2)
    require(statuses(received) == [401], f"answered {statuses(received)}")
    require(b"www-authenticate: bearer" in received.lower(), "no WWW-Authenticate")
    return "401"


def _query(name: str) -> str:
    return f"?key={ALICE}&access_token={ALICE}" if "query" in name else ""


check_all("key", {name: partial(_signed_in, _query(name), lines) for name, lines in KEYS.items()}, service_under_test)


@attempt("metrics", "with the key of a client")
async def metrics_of_all(home: Path) -> str:
    """Read with a client's key what all clients do: only an admin's and METRICS_KEY's are enough."""
    key = "metrics-key-0123456789"
    async with service_under_test(home, METRICS_KEY=key) as g:
        found = [(await g.http.get("/metrics", headers=bearer(each))).status_code for each in (ALICE, key, ROOT)]
        require(found == [403, 200, 200], f"answered {found}")
        other = (await g.http.get("/v1/tasks", headers=bearer(key))).status_code
        require(other == 401, f"the key of the metrics opens the API: {other}")
        return "403; METRICS_KEY opens nothing else"
