"""Who may see and do what."""

import httpx
import pytest

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
    ("GET", "/nope"),
]
WRONG = [None, "Bearer", "Bearer wrong", "Bearer key-of-an", "Basic key-of-ann", "key-of-ann"]
OWNED = [each for each in EVERYTHING if "task-1" in each[1] or "delivery-1" in each[1]]


def a_world() -> FakeApplication:
    """Return a world with one task and one delivery of ann."""
    world = FakeApplication(tasks_by_id={"task-1": a_task(client="ann")})
    world.deliveries_by_id["delivery-1"] = a_delivery(client="ann")
    return world


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
@pytest.mark.parametrize(
    "header", [None, "Bearer", "Bearer wrong", "Bearer key-of-an", "Basic key-of-ann", "key-of-ann"]
)
async def test_without_a_known_key_nothing_is_served(method: str, path: str, header: str | None) -> None:
    """A missing, wrong or cut key is 401 and names the scheme; nothing happened."""
    world = a_world()
    headers = {"Authorization": header} if header else {}
    async with client_of(app_of(world, api_keys=KEYS)) as client:
        answer = await client.request(method, path, headers=headers, json=GOOD if path == "/v1/tasks" else None)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert world == a_world()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_are_open(path: str) -> None:
    """Whether we live and are ready may be asked by anybody."""
    async with client_of(app_of(FakeApplication(), api_keys=KEYS)) as client:
        assert (await client.get(path)).status_code == 200


async def test_callbacks_are_open() -> None:
    """The upstream has no key: its token is what counts."""
    async with client_of(app_of(FakeApplication(), api_keys=KEYS)) as client:
        assert (await client.post("/callbacks/abc", content=b"{}")).status_code == 204


@pytest.mark.parametrize(("method", "path"), OWNED)
async def test_another_clients_things_are_404_and_untouched(method: str, path: str) -> None:
    """What belongs to ann does not exist for bob, and he cannot change it."""
    world = a_world()
    async with client_of(app_of(world, api_keys=KEYS), "key-of-bob") as client:
        answer = await client.request(method, path)
        unknown = await client.request(method, path.replace("-1", "-9"))
    assert answer.status_code == 404
    assert answer.json() == unknown.json()
    assert (world.tasks_by_id, world.replayed) == (a_world().tasks_by_id, [])


@pytest.mark.parametrize("key", ["key-of-ann", "key-of-root"])
@pytest.mark.parametrize(("method", "path"), OWNED)
async def test_the_owner_and_an_admin_get_through(key: str, method: str, path: str) -> None:
    """A client reaches its own things, an admin all."""
    async with client_of(app_of(a_world(), api_keys=KEYS), key) as client:
        assert (await client.request(method, path)).status_code in (200, 202)


async def test_lists_show_a_client_its_own_and_an_admin_all() -> None:
    """Lists are narrowed to the client who asks."""
    world = a_world()
    world.add(a_task(2, client="bob"))
    seen = {}
    for name in ("ann", "bob", "root"):
        async with client_of(app_of(world, api_keys=KEYS), f"key-of-{name}") as client:
            tasks = (await client.get("/v1/tasks")).json()["data"]
            deliveries = (await client.get("/v1/deliveries")).json()["data"]
        seen[name] = [each["id"] for each in tasks + deliveries]
    assert seen == {"ann": ["task-1", "delivery-1"], "bob": ["task-2"], "root": ["task-2", "task-1", "delivery-1"]}


async def test_a_new_task_belongs_to_whose_key_it_was() -> None:
    """The client of a task is the name of the key."""
    world = FakeApplication()
    async with client_of(app_of(world, api_keys=KEYS), "key-of-bob") as client:
        await client.post("/v1/tasks", json=GOOD)
    assert world.accepted[0].client == "bob"


@pytest.mark.parametrize(("name", "status"), [("ann", 403), ("root", 200)])
async def test_only_an_admin_rings_for_a_round(name: str, status: int) -> None:
    """Reconciling everybody's tasks needs an admin's key."""
    async with client_of(app_of(FakeApplication(), api_keys=KEYS), f"key-of-{name}") as client:
        answer = await client.post("/v1/reconcile")
    assert answer.status_code == status
    if status == 200:
        assert answer.json() == {"submitted": 1, "polled": 2, "dispatched": 3}


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
    ],
)
async def test_without_api_keys_only_this_machine_is_served(headers: dict[str, str], status: int) -> None:
    """A tunnel for callbacks, or a web page in the operator's browser, does not open the API to others."""
    async with client_of(app_of(FakeApplication())) as client:
        assert (await client.get("/v1/tasks", headers=headers)).status_code == status
        callback = await client.post("/callbacks/abc", content=b"{}", headers=headers)
        assert callback.status_code == 204


async def test_a_key_with_any_bytes_is_no_error() -> None:
    """Bytes outside ASCII in the header are just a wrong key."""
    async with client_of(app_of(FakeApplication(), api_keys=KEYS)) as client:
        answer = await client.get("/v1/tasks", headers={b"Authorization": b"Bearer \xff\xfe"})
    assert answer.status_code == 401


async def test_keys_beyond_ascii_work() -> None:
    """A key with other letters is sent as UTF-8 and fits."""
    key = KEYS[0].__class__(name="zoe", key="schlüssel")
    async with client_of(app_of(FakeApplication(), api_keys=[key])) as client:
        answer: httpx.Response = await client.get("/v1/tasks", headers={b"Authorization": "Bearer schlüssel".encode()})
    assert answer.status_code == 200
