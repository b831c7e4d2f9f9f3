"""Authentication and the visibility of tasks and deliveries."""

import asyncio

import httpx
import pytest

from service.api.server import listen, serving
from tests.unit.api.fakes import GOOD, KEYS, FakeApplication, a_delivery, a_task, app_of, client_of

EVERYTHING = [
    ("POST", "/v1/tasks"),
    ("GET", "/v1/tasks"),
    ("GET", "/v1/tasks/task-1"),
    ("POST", "/v1/tasks/task-1/cancel"),
    ("POST", "/v1/tasks/task-1/resubmit"),
    ("GET", "/v1/tasks/task-1/events"),
    ("GET", "/v1/deliveries"),
    ("GET", "/v1/deliveries/delivery-1"),
    ("POST", "/v1/deliveries/delivery-1/replay"),
    ("POST", "/v1/reconcile"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/viduq2_pro_reference"),
    ("GET", "/metrics"),
    ("GET", "/metrics/"),
]
WRONG = [None, "Bearer", "Bearer wrong", "Bearer key-of-an", "Basic key-of-ann", "key-of-ann"]
OWNED = [each for each in EVERYTHING if "task-1" in each[1] or "delivery-1" in each[1]]


def fake_with_rows() -> FakeApplication:
    """Return a fake application with one task and one delivery of ann."""
    fake = FakeApplication(tasks_by_id={"task-1": a_task(client="ann")})
    fake.deliveries_by_id["delivery-1"] = a_delivery(client="ann")
    return fake


@pytest.mark.parametrize(
    ("method", "path"), [*EVERYTHING, ("HEAD", "/v1/tasks/task-1"), ("DELETE", "/v1/tasks/task-1")]
)
@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer wrong", "Bearer key-of-an", "Basic key-of-ann", "key-of-ann"]
)
async def test_unknown_keys_are_401(method: str, path: str, header: str | None) -> None:
    """A missing, wrong or truncated key is 401 with the scheme, and changes nothing."""
    fake = fake_with_rows()
    headers = {"Authorization": header} if header else {}
    async with client_of(app_of(fake, api_keys=KEYS)) as client:
        response = await client.request(method, path, headers=headers, json=GOOD if path == "/v1/tasks" else None)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert response.headers["content-type"] == "application/problem+json"
    assert fake == fake_with_rows()


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer key-of-ann"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/nope", "/favicon.ico", "/robots.txt", "/v1/nope", "/v1/tasks/", "//v1/tasks"])
async def test_unknown_addresses_are_404_for_everybody(path: str, method: str, header: str | None) -> None:
    """Where nothing is there to protect nobody is asked for a key."""
    async with client_of(app_of(fake_with_rows(), api_keys=KEYS)) as client:
        response = await client.request(method, f"http://127.0.0.1{path}", headers={"Authorization": header or ""})
    assert (response.status_code, response.headers.get("www-authenticate")) == (404, None)


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/tasks", "GET, HEAD, OPTIONS, POST"),
        ("/v1/tasks/task-1", "DELETE, GET, HEAD, OPTIONS"),
        ("/v1/tasks/task-9", "DELETE, GET, HEAD, OPTIONS"),
        ("/v1/tasks/task-1/cancel", "OPTIONS, POST"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/", "GET, HEAD, OPTIONS"),
    ],
)
async def test_options_need_no_key(path: str, allow: str) -> None:
    """A preflight or a balancer's check gets the methods of an address, and nothing about tasks."""
    fake = fake_with_rows()
    async with client_of(app_of(fake, api_keys=KEYS)) as client:
        response = await client.options(path, headers={"Origin": "https://example.org"})
    assert (response.status_code, response.content, response.headers["allow"]) == (204, b"", allow)
    assert "access-control-allow-origin" not in response.headers
    assert fake == fake_with_rows()


async def test_options_of_the_whole_server_need_no_key() -> None:
    """`OPTIONS *`, which some balancers send, is the same as `OPTIONS /`; with another method it is no address."""
    listener = listen("127.0.0.1", 0)
    async with serving(app_of(FakeApplication(), api_keys=KEYS), listener, grace=1):
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        for method, status in ((b"OPTIONS", b"204"), (b"GET", b"404")):
            writer.write(method + b" * HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == status
        writer.close()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
async def test_without_a_key_known_and_unknown_tasks_are_alike(method: str) -> None:
    """The response does not depend on whether a task exists."""
    async with client_of(app_of(fake_with_rows(), api_keys=KEYS)) as client:
        known, unknown = [await client.request(method, f"/v1/tasks/{each}") for each in ("task-1", "task-9")]
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)


@pytest.mark.parametrize("path", ["/", "/nope"])
async def test_root_is_404_without_a_key(path: str) -> None:
    """There is no page yet; other machines get the same answer where no keys are configured."""
    for keys in (KEYS, KEYS[:0]):
        async with client_of(app_of(FakeApplication(), api_keys=keys)) as client:
            response = await client.get(path, headers={"Host": "boomerang.example.org"})
        assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/healthz/", "/readyz/"])
async def test_probes_are_open(path: str) -> None:
    """Liveness and readiness need no key."""
    async with client_of(app_of(FakeApplication(), api_keys=KEYS)) as client:
        assert (await client.get(path)).status_code == 200


async def test_callbacks_are_open() -> None:
    """The provider has no API key; the token authenticates a callback."""
    async with client_of(app_of(FakeApplication(), api_keys=KEYS)) as client:
        assert (await client.post("/callbacks/abc", content=b"{}")).status_code == 204


@pytest.mark.parametrize(("method", "path"), OWNED)
async def test_rows_of_another_client_are_404(method: str, path: str) -> None:
    """Tasks and deliveries of ann are unknown to bob, who cannot change them."""
    fake = fake_with_rows()
    async with client_of(app_of(fake, api_keys=KEYS), "key-of-bob") as client:
        response = await client.request(method, path)
        unknown = await client.request(method, path.replace("-1", "-9"))
    assert response.status_code == 404
    assert response.json() == unknown.json()
    assert (fake.tasks_by_id, fake.replayed) == (fake_with_rows().tasks_by_id, [])


@pytest.mark.parametrize("key", ["key-of-ann", "key-of-root"])
@pytest.mark.parametrize(("method", "path"), OWNED)
async def test_owner_and_admin_have_access(key: str, method: str, path: str) -> None:
    """A client has access to its own rows, an admin to all."""
    async with client_of(app_of(fake_with_rows(), api_keys=KEYS), key) as client:
        assert (await client.request(method, path)).status_code in (200, 202)


async def test_lists_are_limited_to_the_client() -> None:
    """A client lists its own rows, an admin all."""
    fake = fake_with_rows()
    fake.add(a_task(2, client="bob"))
    seen = {}
    for name in ("ann", "bob", "root"):
        async with client_of(app_of(fake, api_keys=KEYS), f"key-of-{name}") as client:
            tasks = (await client.get("/v1/tasks")).json()["data"]
            deliveries = (await client.get("/v1/deliveries")).json()["data"]
        seen[name] = [each["id"] for each in tasks + deliveries]
    assert seen == {"ann": ["task-1", "delivery-1"], "bob": ["task-2"], "root": ["task-2", "task-1", "delivery-1"]}


async def test_new_task_belongs_to_the_client_of_the_key() -> None:
    """The client of a task is the name of the key."""
    fake = FakeApplication()
    async with client_of(app_of(fake, api_keys=KEYS), "key-of-bob") as client:
        await client.post("/v1/tasks", json=GOOD)
    assert fake.accepted[0].client == "bob"


@pytest.mark.parametrize(("name", "status"), [("ann", 403), ("root", 200)])
async def test_only_an_admin_may_reconcile(name: str, status: int) -> None:
    """A single pass over the tasks of all clients needs the key of an admin."""
    async with client_of(app_of(FakeApplication(), api_keys=KEYS), f"key-of-{name}") as client:
        response = await client.post("/v1/reconcile")
    assert response.status_code == status
    if status == 200:
        assert response.json() == {"submitted": 1, "polled": 2, "dispatched": 3}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "127.0.0.1:8080"}, 200),
        ({"Host": "127.8.8.8"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "localhost:8080", "Origin": "http://localhost:8080"}, 200),
        ({"Host": "boomerang.example.org"}, 403),
        ({"Host": "localhost.example.org"}, 403),
        ({"Host": "169.254.169.254"}, 403),
        ({"Host": "["}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "https://evil.example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"X-Forwarded-For": "203.0.113.7"}, 403),
        ({"Forwarded": "for=203.0.113.7"}, 403),
        ({"X-Original-Host": "boomerang.example.org"}, 403),
        ({"X-Amzn-Trace-Id": "Root=1-1"}, 403),
        ({"Origin": "evil://localhost:8080.evil.example"}, 403),
        ({"Host": "localhost:8080", "Referer": "http://localhost:8080/tasks?status=failed"}, 200),
        ({"Host": "localhost:8080", "Referer": "https://boomerang.example.org/tasks"}, 403),
        ({"Host": "localhost:8080", "Referer": "http://localhost:3000/"}, 403),
        ({"Host": "localhost:8080", "Referer": "http://["}, 403),
        ({"Host": "app.localhost"}, 403),
        ({"Host": "localhost:8080", "Sec-Fetch-Site": "none"}, 200),
        ({"Host": "localhost:8080", "Sec-Fetch-Site": "same-site"}, 403),
    ],
)
async def test_without_api_keys_only_local_callers_are_served(headers: dict[str, str], status: int) -> None:
    """A tunnel for callbacks or a page of another site in a browser gives no access to the API."""
    async with client_of(app_of(FakeApplication())) as client:
        assert (await client.get("/v1/tasks", headers=headers)).status_code == status
        callback = await client.post("/callbacks/abc", content=b"{}", headers=headers)
        assert callback.status_code == 204


async def test_proxy_without_forwarding_headers_is_no_local_caller() -> None:
    """An nginx with nothing but `proxy_pass` asks by HTTP/1.0 for its own upstream address, and adds no header."""
    listener = listen("127.0.0.1", 0)
    host = f"127.0.0.1:{listener.getsockname()[1]}".encode()
    async with serving(app_of(FakeApplication()), listener, grace=1):
        for version, status in ((b"1.0", b"403"), (b"1.1", b"200")):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(b"GET /v1/tasks HTTP/" + version + b"\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).split()[1] == status
            writer.close()


async def test_key_with_arbitrary_bytes_is_401() -> None:
    """A header with bytes outside ASCII is a wrong key, not an error."""
    async with client_of(app_of(FakeApplication(), api_keys=KEYS)) as client:
        response = await client.get("/v1/tasks", headers={b"Authorization": b"Bearer \xff\xfe"})
    assert response.status_code == 401


async def test_non_ascii_key_is_accepted() -> None:
    """A key outside ASCII is sent as UTF-8 and matches."""
    key = KEYS[0].__class__(name="zoe", key="schlüssel")
    async with client_of(app_of(FakeApplication(), api_keys=[key])) as client:
        response: httpx.Response = await client.get(
            "/v1/tasks", headers={b"Authorization": "Bearer schlüssel".encode()}
        )
    assert response.status_code == 200
