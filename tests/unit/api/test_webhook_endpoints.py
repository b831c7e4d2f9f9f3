"""The addresses under `/v1/endpoints`."""

from typing import Any

import httpx
import pytest

from service.domain.api_key import ApiKey
from service.domain.event_routing import EVENT_NAMES
from tests.support.endpoint_builders import OTHER_SECRET, SECRET, URL
from tests.unit.api.fake_endpoints import REFUSED, an_endpoint
from tests.unit.api.fakes import KEYS, FakeApplication, app_of, client_of

ANN, BOB, ADMIN = "key-of-ann", "key-of-bob", "key-of-root"


async def _call(
    fake: FakeApplication, method: str, path: str = "", body: Any = None, key: str | None = None
) -> httpx.Response:
    services = {"api_keys": KEYS} if key else {}
    async with client_of(app_of(fake, **services), key) as client:
        given = {} if body is None else {"json": body}
        return await client.request(method, f"/v1/endpoints{path}", **given)


async def test_secret_is_shown_once() -> None:
    """The creation answers with the secret, no later answer has it or the value of a header."""
    fake = FakeApplication()
    body = {"url": URL, "events": ["task.failed"], "description": "Orders", "headers": {"X-Key": "of-the-shop"}}
    created = await _call(fake, "POST", body=body)
    assert (created.status_code, created.headers["cache-control"]) == (201, "no-store")
    made = created.json()
    assert (made["secret"], made["events"], made["headers"]) == (OTHER_SECRET, ["task.failed"], ["X-Key"])
    assert created.headers["location"] == f"/v1/endpoints/{made['id']}"
    for path in ("", f"/{made['id']}"):
        shown = (await _call(fake, "GET", path)).text
        assert "whsec_" not in shown
        assert "of-the-shop" not in shown
        assert "Orders" in shown


async def test_given_secret_is_used() -> None:
    """A client may bring its own secret."""
    created = await _call(FakeApplication(), "POST", body={"url": URL, "secret": SECRET})
    assert created.json()["secret"] == SECRET


FAULTS: list[tuple[Any, list[Any], str]] = [
    ({}, ["url"], "is missing"),
    ({"url": 5}, ["url"], "must be a string"),
    ({"url": "ftp://example.org/"}, ["url"], "http or https"),
    ({"url": REFUSED}, ["url"], "internal address"),
    ({"url": "https://user:pass@example.org/"}, ["url"], "user name"),
    ({"url": "https://example.org/#part"}, ["url"], "fragment"),
    ({"url": "https://example.org/" + "x" * 2048}, ["url"], "at most 2,048"),
    ({"url": URL, "events": ["task.complete"]}, ["events", 0], "did you mean task.completed?"),
    ({"url": URL, "events": ["task.complete"]}, ["events", 0], f"known are {', '.join(EVENT_NAMES)}"),
    ({"url": URL, "events": []}, ["events"], "null for all"),
    ({"url": URL, "events": ["task.failed", "task.failed"]}, ["events"], "twice"),
    ({"url": URL, "events": "task.failed"}, ["events"], "list"),
    ({"url": URL, "description": "x" * 501}, ["description"], "at most 500"),
    ({"url": URL, "secret": "hello"}, ["secret"], "whsec_"),
    ({"url": URL, "headers": {"Host": "x"}}, ["headers", "Host"], "set by this service"),
    ({"url": URL, "headers": {"Content-Length": "1"}}, ["headers", "Content-Length"], "set by this service"),
    ({"url": URL, "headers": {"Webhook-Id": "x"}}, ["headers", "Webhook-Id"], "set by this service"),
    ({"url": URL, "headers": {"Transfer-Encoding": "x"}}, ["headers", "Transfer-Encoding"], "set by this service"),
    ({"url": URL, "headers": {"X Y": "x"}}, ["headers", "header 1"], "must have a name"),
    ({"url": URL, "headers": {"X": "a\r\nY: b"}}, ["headers", "X"], "must have a value"),
    ({"url": URL, "headers": {"X": "ä"}}, ["headers", "X"], "must have a value"),
    ({"url": URL, "headers": {"X": "x" * 1025}}, ["headers", "X"], "must have a value"),
    ({"url": URL, "headers": {"X": "1", "x": "2"}}, ["headers", "x"], "twice"),
    ({"url": URL, "headers": {f"X-{n}": "1" for n in range(17)}}, ["headers"], "at most 16"),
    ({"url": URL, "headers": {"X": 5}}, ["headers", "X"], "must be a string"),
    ({"url": URL, "rate": "0/s"}, ["rate"], "like 30/s"),
    ({"url": URL, "rate": 30}, ["rate"], "must be a string"),
    ({"url": URL, "event": []}, ["event"], "did you mean events?"),
    ([], [], "JSON object"),
]


@pytest.mark.parametrize(("body", "loc", "message"), FAULTS)
async def test_faults_of_a_new_endpoint(body: Any, loc: list[Any], message: str) -> None:
    """Each fault names its place and the fix, and none repeats the value of a header."""
    answer = await _call(FakeApplication(), "POST", body=body)
    assert answer.status_code == 422
    found = [each["msg"] for each in answer.json()["errors"] if each["loc"] == loc]
    assert any(message in each for each in found), answer.json()


async def test_every_fault_at_once() -> None:
    """A request with several faults gets all of them."""
    answer = await _call(FakeApplication(), "POST", body={"url": "x", "events": ["y"], "secret": "z"})
    assert [each["loc"] for each in answer.json()["errors"]] == [["url"], ["events", 0], ["secret"]]


async def test_change_and_pause() -> None:
    """A field that is not given stays; null events mean all."""
    fake = FakeApplication()
    fake.endpoints.rows = {"endpoint-1": an_endpoint(events=("task.failed",), description="Orders")}
    answer = await _call(fake, "PATCH", "/endpoint-1", {"events": None, "paused": True})
    changed = answer.json()
    assert (changed["events"], changed["paused"], changed["description"]) == (None, True, "Orders")
    assert (await _call(fake, "PATCH", "/endpoint-1", {"rate": "30/s"})).json()["rate"] == "30/s"
    assert (await _call(fake, "PATCH", "/endpoint-1", {"rate": None})).json()["rate"] is None
    answer = await _call(fake, "PATCH", "/endpoint-1", {"url": REFUSED})
    assert answer.status_code == 422
    answer = await _call(fake, "PATCH", "/endpoint-1", {"disabled": True})
    assert answer.json()["errors"][0]["loc"] == ["disabled"]


async def test_rotation_has_an_overlap_by_default() -> None:
    """Without a body a secret is made, and the old one signs for a day; a repeat of the same secret is refused."""
    fake = FakeApplication()
    fake.endpoints.rows = {"endpoint-1": an_endpoint()}
    answer = await _call(fake, "POST", "/endpoint-1/rotate")
    assert answer.headers["cache-control"] == "no-store"
    assert (answer.json()["secret"], answer.json()["old_secrets_until"]) == (OTHER_SECRET, "2026-05-07T12:09:42.000Z")
    assert (await _call(fake, "POST", "/endpoint-1/rotate")).status_code == 409
    answer = await _call(fake, "POST", "/endpoint-1/rotate", {"secret": SECRET, "overlap_seconds": 0})
    assert answer.json()["old_secrets_until"] is None
    for wrong in ({"overlap_seconds": -1}, {"overlap_seconds": 7 * 86_400 + 1}, {"overlap_seconds": "1"}):
        assert (await _call(fake, "POST", "/endpoint-1/rotate", wrong)).status_code == 422


@pytest.mark.parametrize(
    ("method", "action", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"paused": True}),
        ("DELETE", "", None),
        ("POST", "/rotate", {}),
        ("POST", "/test", None),
        ("POST", "/replay", {"since": "2026-05-06T11:00:00Z"}),
    ],
)
async def test_endpoint_of_another_client_does_not_exist(method: str, action: str, body: Any) -> None:
    """A client gets the same 404 as for an unknown id; nothing happens."""
    fake = FakeApplication()
    fake.endpoints.rows = {"endpoint-1": an_endpoint(client="ann")}
    before = dict(fake.endpoints.rows)
    other = await _call(fake, method, f"/endpoint-1{action}", body, key=BOB)
    unknown = await _call(fake, method, f"/endpoint-9{action}", body, key=BOB)
    assert (other.status_code, other.json()) == (404, unknown.json())
    assert (fake.endpoints.rows, fake.endpoints.tested) == (before, [])


async def test_admin_sees_all_but_not_the_path_of_their_addresses() -> None:
    """An admin lists those of all clients, or of one; a client only its own."""
    fake = FakeApplication()
    fake.endpoints.rows = {name: an_endpoint(name, client=name) for name in ("ann", "bob")}
    shown = (await _call(fake, "GET", key=ADMIN)).json()["data"]
    assert {each["url"] for each in shown} == {"https://hooks.example.org/…"}
    assert [each["id"] for each in (await _call(fake, "GET", "?client=ann", key=ADMIN)).json()["data"]] == ["ann"]
    own = (await _call(fake, "GET", key=ANN)).json()["data"]
    assert [(each["id"], each["url"]) for each in own] == [("ann", URL)]
    assert (await _call(fake, "GET", "?client=bob", key=ANN)).status_code == 422


async def test_test_event_reports_what_became_of_it() -> None:
    """A failed test is a 200 with the status and the answer of the receiver."""
    fake = FakeApplication()
    fake.endpoints.rows = {"endpoint-1": an_endpoint()}
    answer = (await _call(fake, "POST", "/endpoint-1/test")).json()
    assert (answer["delivered"], answer["status"], answer["answer"]) == (False, 500, "oops")


async def test_replay_of_what_was_missed() -> None:
    """A dry run counts; the real one makes deliveries; times are checked."""
    fake = FakeApplication()
    fake.endpoints.rows = {"endpoint-1": an_endpoint()}
    since = {"since": "2026-05-06T11:00:00Z"}
    counted = (await _call(fake, "POST", "/endpoint-1/replay", since | {"dry_run": True})).json()
    assert (counted["matched"], counted["created"], fake.endpoints.added) == (1, 0, [])
    done = (await _call(fake, "POST", "/endpoint-1/replay", since)).json()
    assert (done["created"], done["next_cursor"]) == (1, None)
    [row] = fake.endpoints.added
    assert (row.endpoint_id, row.event_id, row.client) == ("endpoint-1", "event-7", "local")
    for wrong in ({}, {"since": "2027-01-01T00:00:00Z"}, {"since": "yesterday"}, {"since": 5}, since | {"cursor": "x"}):
        assert (await _call(fake, "POST", "/endpoint-1/replay", wrong)).status_code == 422


async def test_delete() -> None:
    """A deleted endpoint is gone."""
    fake = FakeApplication()
    fake.endpoints.rows = {"endpoint-1": an_endpoint()}
    assert (await _call(fake, "DELETE", "/endpoint-1")).status_code == 204
    assert (await _call(fake, "DELETE", "/endpoint-1")).status_code == 404


async def test_key_that_only_reads_sees_the_host_alone() -> None:
    """A client may have such a key; the query of its own address stays hidden from it too."""
    fake = FakeApplication()
    fake.endpoints.rows = {"endpoint-1": an_endpoint(client="ann")}
    keys = (ApiKey(name="ann", key=ANN), ApiKey(name="ann", key="reader-of-ann", read_only=True))
    seen = {}
    for key in (ANN, "reader-of-ann"):
        async with client_of(app_of(fake, api_keys=keys), key) as client:
            seen[key] = [
                (await client.get("/v1/endpoints/endpoint-1")).json()["url"],
                (await client.get("/v1/endpoints")).json()["data"][0]["url"],
            ]
    assert seen == {ANN: [URL, URL], "reader-of-ann": ["https://hooks.example.org/…"] * 2}
